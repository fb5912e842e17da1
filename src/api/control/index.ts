/** The control socket: its server, its client, and where the sockets of running guests are. */
export { openControl, serveControl, type ControlServer } from './server.ts';
export { callOnce, connectControl, type ControlClient } from './client.ts';
export { findSocket, listSockets, type GuestSocket } from './directory.ts';
export type { ControlEvent, Method as ControlMethod, ParamsOf as ControlParams } from './protocol.ts';
export type { ResultOf as ControlResult } from './results.ts';
