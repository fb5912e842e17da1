/** The `serve` function of each device kind. Loads no configuration schemas, which no worker needs. */
import { serveBalloon } from '../balloon/serve.ts';
import { serveBlock } from '../block/serve.ts';
import { serveConsole } from '../console/serve.ts';
import { serveEntropy } from '../entropy/serve.ts';
import { serveMem } from '../mem/serve.ts';
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
  mem: serveMem,
} satisfies { readonly [Kind in DeviceKind]: ServeFunction<never> };

/** Argument of the `serve` function of a device kind. */
export type StartOf<Kind extends DeviceKind> = Parameters<(typeof SERVE)[Kind]>[0];

/** Creates a device on its worker. `start` is that of its `OpenDevice`. */
export function serveDevice(kind: DeviceKind, start: unknown, context: ServeContext): VirtioDevice {
  return (SERVE[kind] as ServeFunction<unknown>)(start, context);
}
