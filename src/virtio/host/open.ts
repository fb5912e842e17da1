/** The `open` function of each device kind, and the open devices, which persist across guest resets. */
import { openBalloon } from '../balloon/open.ts';
import { openBlock } from '../block/open.ts';
import { openConsole } from '../console/open.ts';
import { openEntropy } from '../entropy/open.ts';
import { openMem } from '../mem/open.ts';
import { openNet } from '../net/open.ts';
import { readPmemBytes, openPmem } from '../pmem/open.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import type { PmemConfig } from '../pmem/spec.ts';
import { openShare } from '../share/open.ts';
import { openVsock } from '../vsock/open.ts';
import type { OpenContext, OpenDevice, OpenFunction } from './open-device.ts';
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
  mem: openMem,
};

/**
 * The open devices of one guest. Its first machine opens them, and the machine after a reset uses them again:
 * in the sandbox no tap, socket or file can be opened. They are closed on dispose or on process exit, which
 * removes their sockets.
 */
export class OpenDevices implements Disposable {
  readonly #open = new Map<DeviceConfig, OpenDevice>();
  readonly #pmemBytes = new Map<PmemConfig, number>();
  readonly #closeAtExit = () => this[Symbol.dispose]();

  /**
   * Returns the device of this configuration object; opens it the first time. `pmem` has the guest physical
   * ranges of persistent memory. Throws VoltError 'image', 'host' or 'usage' if a file cannot be used.
   */
  open(config: DeviceConfig, pmem: readonly PmemPlacement[], places: Omit<OpenContext, 'pmem'>): OpenDevice {
    const known = this.#open.get(config);
    if (known) return known;
    const open = OPEN[config.kind] as OpenFunction<DeviceConfig, unknown>;
    const device = open(config, { ...places, pmem: pmem.find(({ id }) => id === config.id) });
    if (this.#open.size === 0) process.on('exit', this.#closeAtExit);
    this.#open.set(config, device);
    return device;
  }

  /** Takes over the device of a configuration that was plugged. */
  adopt(config: DeviceConfig, device: OpenDevice): void {
    if (this.#open.size === 0) process.on('exit', this.#closeAtExit);
    this.#open.set(config, device);
  }

  /** Closes a device that was unplugged, whose worker has ended. */
  close(config: DeviceConfig): void {
    this.#open.get(config)?.close();
    this.#open.delete(config);
  }

  /** Size of a persistent memory file in bytes, the same for each machine. Throws VoltError 'image'. */
  pmemBytes(config: PmemConfig): number {
    const bytes = this.#pmemBytes.get(config) ?? readPmemBytes(config);
    this.#pmemBytes.set(config, bytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#closeAtExit);
    for (const device of this.#open.values()) device.close();
    this.#open.clear();
  }
}
