/** The control socket: server, client, and the list of running guests' sockets. */
export { openControl, serveControl, type ControlServer } from './server.ts';
export { callOnce, connectControl, type ControlClient } from './client.ts';
export type { SaveOptions } from './save-guest.ts';
export { findSocket, listSockets, type GuestSocket } from './directory.ts';
export type { ControlEvent, Method as ControlMethod, ParamsOf as ControlParams } from './protocol.ts';
export type { ResultOf as ControlResult } from './results.ts';
