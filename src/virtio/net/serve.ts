/** Serves a network interface from its tap or passt. */
import type { ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { servePasst, type PasstStart } from './serve-passt.ts';
import { serveTap, type TapStart } from './serve-tap.ts';

export type NetStart = TapStart | PasstStart;

export function serveNet(start: NetStart, context: ServeContext): VirtioDevice {
  return start.link === 'tap' ? serveTap(start, context) : servePasst(start, context);
}
