/** How each kind of device is opened, and the devices that stay open while a guest resets itself. */
import { openBalloon } from '../balloon/open.ts';
import { openBlock } from '../block/open.ts';
import { openConsole } from '../console/open.ts';
import { openEntropy } from '../entropy/open.ts';
import { openNet } from '../net/open.ts';
import { findPmemBytes, openPmem } from '../pmem/open.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import type { PmemConfig } from '../pmem/spec.ts';
import { openShare } from '../share/open.ts';
import { openVsock } from '../vsock/open.ts';
import type { OpenDevice, OpenFunction } from './open-device.ts';
import type { StartOf } from './serve.ts';
import type { ConfigOf, DeviceConfig, DeviceKind } from './specs.ts';

const OPEN: { readonly [Kind in DeviceKind]: OpenFunction<ConfigOf<Kind>, StartOf<Kind>> } = {
  block: openBlock,
  pmem: openPmem,
  net: openNet,
  share: openShare,
  vsock: openVsock,
  console: openConsole,
  balloon: openBalloon,
  entropy: openEntropy,
};

/**
 * The open devices of one guest. They are opened for its first machine and used again by the one that is made after a
 * reset: in the sandbox no tap, no socket and no file can be opened any more. Closed by dispose, or when the process
 * ends, because sockets would be left behind.
 */
export class OpenDevices implements Disposable {
  readonly #open = new Map<DeviceConfig, OpenDevice>();
  readonly #pmemBytes = new Map<PmemConfig, number>();
  readonly #closeAtExit = () => this[Symbol.dispose]();

  /**
   * The device of this configuration object, opened if it is not yet. `pmem` says where persistent memory lies. Throws
   * VoltError 'image', 'host' or 'usage' that says what is wrong with the device's files.
   */
  open(config: DeviceConfig, pmem: readonly PmemPlacement[]): OpenDevice {
    const known = this.#open.get(config);
    if (known) return known;
    const open = OPEN[config.kind] as OpenFunction<DeviceConfig, unknown>;
    const device = open(config, { pmem: pmem.find(({ id }) => id === config.id) });
    if (this.#open.size === 0) process.on('exit', this.#closeAtExit);
    this.#open.set(config, device);
    return device;
  }

  /** Bytes of the file of persistent memory, the same for each machine. Throws VoltError 'image'. */
  pmemBytes(config: PmemConfig): number {
    const bytes = this.#pmemBytes.get(config) ?? findPmemBytes(config);
    this.#pmemBytes.set(config, bytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#closeAtExit);
    for (const device of this.#open.values()) device.close();
    this.#open.clear();
  }
}
