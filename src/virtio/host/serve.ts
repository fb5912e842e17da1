/** How each kind of device is served on its worker. No schemas are loaded here. */
import { serveBalloon } from '../balloon/serve.ts';
import { serveBlock } from '../block/serve.ts';
import { serveConsole } from '../console/serve.ts';
import { serveEntropy } from '../entropy/serve.ts';
import { serveNet } from '../net/serve.ts';
import { servePmem } from '../pmem/serve.ts';
import { serveShare } from '../share/serve.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { serveVsock } from '../vsock/serve.ts';
import type { ServeContext, ServeFunction } from './serve-device.ts';
import type { DeviceKind } from './specs.ts';

const SERVE = {
  block: serveBlock,
  pmem: servePmem,
  net: serveNet,
  share: serveShare,
  vsock: serveVsock,
  console: serveConsole,
  balloon: serveBalloon,
  entropy: serveEntropy,
} satisfies { readonly [Kind in DeviceKind]: ServeFunction<never> };

/** What a device of this kind is made of on its worker. */
export type StartOf<Kind extends DeviceKind> = Parameters<(typeof SERVE)[Kind]>[0];

/** `start` as `open` gave it for this kind. */
export function serveDevice(kind: DeviceKind, start: unknown, context: ServeContext): VirtioDevice {
  return (SERVE[kind] as ServeFunction<unknown>)(start, context);
}
