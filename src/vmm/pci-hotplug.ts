/** PCI hotplug on the main thread: plugs devices, asks the guest to eject some, ends those that it has ejected. */
import { parseDevices } from '../config/devices.ts';
import type { VmConfig } from '../config/config.ts';
import type { OwnedFd } from '../ffi/file.ts';
import { ACPI_EVENT } from '../machine/ports.ts';
import { nameOfSlot } from '../pci/address.ts';
import {
  clearEjected,
  clearEvents,
  isEjected,
  lastOst,
  noteInserted,
  requestRemoval,
} from '../pci/hotplug.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import type { DeviceSet, MachineDevice } from '../virtio/host/device-set.ts';
import type { JsonObject } from '../virtio/host/device-spec.ts';
import type { OpenDevices } from '../virtio/host/open.ts';
import { BUS_WORD } from '../virtio/host/pci-bus.ts';
import { adoptDevice, checkPluggable, filesOf } from '../virtio/host/plug.ts';
import { VoltError } from '../volt-error.ts';
import type { AcpiEvents } from './acpi-events.ts';
import { VM_WORD, type SharedState } from './bus/shared-state.ts';
import {
  ANSWER_TIMEOUT_MS,
  awaitAnswer,
  describeOst,
  hasEnded,
  OST_IN_PROGRESS,
  OST_SUCCESS,
  withBusLock,
} from './guest-answers.ts';

export interface PciHotplugOptions {
  readonly shared: SharedState;
  readonly devices: DeviceSet;
  readonly acpiEvents: AcpiEvents;
  readonly config: Pick<VmConfig, 'acpi' | 'pci'>;
  readonly open: OpenDevices;
}

/** A device to plug, as an item of a section of a configuration file. */
export interface PlugRequest {
  readonly section: string;
  readonly item: JsonObject;
  /** MTU of a tap. */
  readonly mtu?: number | undefined;
}

export interface PlugResult {
  readonly id: string;
  /** Bus, device and function, as lspci writes them. */
  readonly address: string;
  /** False: the guest has not answered; it finds the device when it looks for it. */
  readonly answered: boolean;
}

export class PciHotplug {
  readonly #options: PciHotplugOptions;
  /** The hotplug registers. */
  readonly #words: Int32Array;
  readonly #queue = new SerialQueue();

  /** Throws VoltError 'usage' for a guest without a PCI bus or ACPI. */
  constructor(options: PciHotplugOptions) {
    const link = options.devices.pciLink;
    if (!link || !options.config.acpi) {
      throw new VoltError(
        'usage',
        `Cannot plug or unplug devices: the guest has no ${link ? 'ACPI' : 'PCI bus'}; start it with --pci and ACPI`,
      );
    }
    this.#options = options;
    this.#words = new Int32Array(link.words).subarray(BUS_WORD.hotplug);
  }

  /**
   * Plugs a device. `receive` gives so many files of it, which another process has opened by `openForPlug`. Resolves
   * when the guest has answered, or not in time. Throws VoltError.
   */
  plug(request: PlugRequest, receive: (files: number) => Promise<OwnedFd[]>): Promise<PlugResult> {
    return this.#queue.run(() => this.#plug(request, receive));
  }

  /** Removes a device. Throws VoltError 'usage' for one that cannot be, and 'guest' when the guest keeps it. */
  unplug(id: string): Promise<PlugResult> {
    return this.#queue.run(() => this.#unplug(id));
  }

  /** Ends devices when the guest ejects them, by itself or because it was asked to. Resolves when the machine ends. */
  async removeEjected(): Promise<void> {
    const { words } = this.#options.shared;
    while (!hasEnded(words)) {
      const seen = Atomics.load(words, VM_WORD.hotplugRequests);
      for (const device of [...this.#options.devices.devices]) await this.#removeIfEjected(device);
      const wait = Atomics.waitAsync(words, VM_WORD.hotplugRequests, seen);
      if (wait.async) await wait.value;
    }
  }

  async #removeIfEjected(device: MachineDevice): Promise<void> {
    const slot = device.placement.pciSlot!;
    if (!isEjected(this.#words, slot)) return;
    const { devices, open, shared } = this.#options;
    if (devices.remove(device)) open.close(device.config);
    await withBusLock(shared.words, () => clearEjected(this.#words, slot));
  }

  async #plug(
    { section, item, mtu }: PlugRequest,
    receive: (files: number) => Promise<OwnedFd[]>,
  ): Promise<PlugResult> {
    const { devices, open, shared, acpiEvents } = this.#options;
    const [parsed] = parseDevices({ [section]: [item] }, (path) => path);
    if (!parsed)
      throw new VoltError(
        'usage',
        `Cannot plug a device of ${section} (expected drives or network-interfaces)`,
      );
    const config = checkPluggable(parsed);
    if (devices.devices.some((each) => each.config.kind === config.kind && each.config.id === config.id))
      throw new VoltError(
        'usage',
        `Cannot plug ${config.id}: the guest has a device of this name; give it another id`,
      );
    const opened = adoptDevice(config, await receive(filesOf(config)), mtu ?? 0);
    let device: MachineDevice;
    try {
      device = devices.add(config, item, opened);
    } catch (error) {
      opened.close();
      throw error;
    }
    open.adopt(config, opened);
    const slot = device.placement.pciSlot!;
    const before = lastOst(this.#words, slot).count;
    await withBusLock(shared.words, () => noteInserted(this.#words, slot));
    const isAnswered = () => lastOst(this.#words, slot).count !== before;
    await awaitAnswer(shared.words, acpiEvents, ACPI_EVENT.pciHotplug, isAnswered);
    return { id: config.id, address: nameOfSlot(slot), answered: isAnswered() };
  }

  async #unplug(id: string): Promise<PlugResult> {
    const { devices, shared, acpiEvents } = this.#options;
    const device = devices.devices.find(({ config }) => config.id === id);
    if (!device)
      throw new VoltError(
        'usage',
        `Cannot unplug ${id}: the guest has no such device (expected one of ${devices.devices.map(({ config }) => config.id).join(', ') || 'none'})`,
      );
    if (device.config.kind !== 'block' && device.config.kind !== 'net')
      throw new VoltError(
        'usage',
        `Cannot unplug ${id}: it is a ${device.config.kind} device (expected a disk or a network interface)`,
      );
    const slot = device.placement.pciSlot!;
    const before = lastOst(this.#words, slot).count;
    await withBusLock(shared.words, () => requestRemoval(this.#words, slot));
    const isGone = () => !devices.devices.includes(device);
    const refusal = () => {
      const { count, status } = lastOst(this.#words, slot);
      const refused = count !== before && status !== OST_SUCCESS && status !== OST_IN_PROGRESS;
      return refused ? status : undefined;
    };
    await awaitAnswer(
      shared.words,
      acpiEvents,
      ACPI_EVENT.pciHotplug,
      () => isGone() || refusal() !== undefined,
    );
    await withBusLock(shared.words, () => clearEvents(this.#words, slot));
    if (isGone()) return { id, address: nameOfSlot(slot), answered: true };
    const status = refusal();
    throw new VoltError(
      'guest',
      status === undefined
        ? `Cannot unplug ${id}: the guest did not answer within ${ANSWER_TIMEOUT_MS / 1000} s (expected a kernel with ACPI PCI hotplug)`
        : `Cannot unplug ${id}: the guest refuses, ${describeOst(status)} (_OST status ${status}; expected it to eject the device)`,
    );
  }
}
