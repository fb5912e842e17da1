/**
 * The virtio devices of one machine, on the main thread: their state, their eventfds in KVM, and the device
 * workers. A device whose I/O may block gets its own worker; all others share one.
 */
import { resolve } from 'node:path';
import { createEventFd } from '../../ffi/epoll.ts';
import { hasPrivatePages } from '../../ffi/private-pages.ts';
import type { HostPointer } from '../../ffi/libc.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { takeWorker } from '../../runtime/prepared-workers.ts';
import type { BalloonControl } from '../balloon/control.ts';
import { VoltError } from '../../volt-error.ts';
import { SECTOR_BYTES } from '../block/regs.ts';
import type { DiskControl } from '../block/control.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import { createDeviceState, DEVICE_WORD, type DeviceState } from '../transport/device-state.ts';
import type { DeviceChange } from '../transport/device-change.ts';
import type { DeviceDescription } from '../transport/device.ts';
import type { VirtioLink } from './bus.ts';
import { wireMmioDevice } from './device-fds.ts';
import { createMailbox, sendChange } from './mailbox.ts';
import type { OpenDevices } from './open.ts';
import type { PciBusLink } from './pci-bus.ts';
import { PciHost, type SavedPciBus } from './pci-host.ts';
import { placeDevices, type PciBusPlan, type SlotPlacement } from './placement.ts';
import type { MappedRegion } from './serve-device.ts';
import { noteChange, withChangedSettings, type ChangedSettings, type Sections } from './current-settings.ts';
import type { DeviceConfig } from './specs.ts';
import { checkSavedDevices, restoreDevice, saveDevice } from './save-device.ts';
import type { SavedDevice } from './saved-device.ts';
import { pauseWorkers, resumeWorkers, stopWorkers, type WorkerHandle } from './worker-control.ts';
import { WORKER_WORD, type ServedDevice, type VirtioReport, type VirtioWorkerStart } from './worker-start.ts';

/** Entry point of a device worker. */
export const DEVICE_WORKER = 'virtio/host/worker';

export interface MachineDevice {
  readonly config: DeviceConfig;
  readonly placement: SlotPlacement;
  readonly description: DeviceDescription;
  readonly state: DeviceState;
  readonly balloon: BalloonControl | undefined;
  readonly disk: DiskControl | undefined;
  /** Reason of the last failure. */
  failure: string | undefined;
  /** What has been changed of it while it ran. */
  settings: ChangedSettings;
}

/** Resources of the host and the machine that the devices need. */
export interface DeviceSetOptions {
  readonly configs: readonly DeviceConfig[];
  readonly open: OpenDevices;
  readonly pmem: readonly PmemPlacement[];
  readonly vm: KvmVm;
  readonly memory: GuestMemory;
  /** undefined: the devices are on MMIO. */
  readonly pci?: PciBusPlan | undefined;
  /** State of a saved machine's PCI bus itself. */
  readonly restoredPci?: SavedPciBus | undefined;
  /** Whether the machine is being stopped: nothing waits for a device worker any more. */
  readonly isEnding?: () => boolean;
  /** State of a saved machine's devices, in slot order; they continue with it. */
  readonly restored?: readonly SavedDevice[] | undefined;
}

/** Throws VoltError 'config' for a device that was saved on MMIO, or was another. */
function restoreOnPci(
  host: PciHost,
  slot: number,
  { config, description, state }: Pick<MachineDevice, 'config' | 'description' | 'state'>,
  { pci }: SavedDevice,
): void {
  const name = `${config.id} (${config.kind})`;
  if (pci?.slot !== slot)
    throw new VoltError(
      'config',
      `Cannot restore device ${name}: it was ${pci ? `in slot ${pci.slot}` : 'on MMIO'} (expected slot ${slot} of PCI)`,
    );
  host.restore(slot, description, state, pci, name);
}

interface DeviceWorker extends WorkerHandle {
  readonly worker: Worker;
  readonly start: Omit<VirtioWorkerStart, 'filter'>;
}

export class DeviceSet implements Disposable {
  readonly devices: readonly MachineDevice[];
  /** What vCPU workers need to reach the devices on MMIO, in slot order. */
  readonly links: readonly VirtioLink[];
  readonly #pci: PciHost | undefined;
  readonly #stack = new DisposableStack();
  readonly #workers: DeviceWorker[] = [];
  /** Read-only persistent memory: the guest's writes to it are in private pages, in no file. */
  readonly #privateFiles: { id: string; host: number; bytes: number }[] = [];
  #started = false;
  /** Number of pauses so far. */
  #pauses = 0;
  #phase: 'running' | 'pausing' | 'paused' = 'running';

  /**
   * Opens the devices that are not open yet. Throws VoltError if one cannot be opened, or cannot continue with
   * its restored state.
   */
  constructor({ configs, open, pmem, vm, memory, restored, ...options }: DeviceSetOptions) {
    try {
      if (restored) checkSavedDevices(configs, restored);
      const { pci, restoredPci, isEnding = () => false } = options;
      const placements = placeDevices(configs, { pci });
      const ramEnd = Math.max(...memory.regions.map(({ address, bytes }) => address + bytes));
      const opened = configs.map((config) => open.open(config, pmem, ramEnd));
      this.#pci =
        pci &&
        new PciHost(
          vm.fd,
          pci,
          opened.map(({ description }) => description),
          isEnding,
        );
      const devices: MachineDevice[] = [];
      const served: { device: ServedDevice; blocks: boolean }[] = [];
      // Persistent memory is RAM to devices: a driver may place virtqueues and buffers in it.
      const regions: MappedRegion[] = [...memory.regions];
      if (restoredPci) this.#pci?.restoreBus(restoredPci);
      configs.forEach((config, slot) => {
        const placement = placements[slot]!;
        const { description, start, blocks, balloon, disk, mapRegion } = opened[slot]!;
        if (mapRegion) {
          const { address, bytes, fileBytes } = pmem.find(({ id }) => id === config.id)!;
          const region = { address, bytes, host: this.#stack.use(mapRegion()).address, fd: undefined };
          vm.setMemorySlot(regions.length, region.address, region.bytes, region.host);
          regions.push(region);
          if (config.kind === 'pmem' && config.readOnly)
            this.#privateFiles.push({ id: config.id, host: region.host, bytes: fileBytes });
        }
        const { pciSlot } = placement;
        const host = pciSlot === undefined ? undefined : this.#pci;
        const state = host ? host.createState(pciSlot!, description) : createDeviceState(description);
        const saved = restored?.[slot];
        if (saved) {
          restoreDevice({ config, description, state }, saved);
          balloon?.restore(state);
        }
        const fds = host
          ? host.powerOn(pciSlot!, description, state, this.#stack)
          : wireMmioDevice(vm, placement, state, this.#stack);
        if (host && saved) restoreOnPci(host, pciSlot!, { config, description, state }, saved);
        devices.push({
          ...{ config, placement, description, state, balloon, disk },
          ...{ failure: saved?.failure, settings: {} },
        });
        const { kind, id } = config;
        const { buffer } = state;
        const mailbox = createMailbox();
        const queueCapacity = host?.queueCapacity(pciSlot!) ?? state.queueCount;
        const device = { kind, slot, id, buffer, queueCapacity, mailbox, fds, start };
        served.push({ device, blocks });
      });
      this.devices = devices;
      const { bytes: ramBytes, dirtyPages } = memory;
      this.#assignWorkers(served, regions, { buffer: dirtyPages.buffer, ramBytes });
      this.links = pci
        ? []
        : devices.map(({ state }) => ({ buffer: state.buffer, queueCount: state.queueCount }));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** What vCPU workers need to reach the PCI bus; undefined: there is none. */
  get pciLink(): PciBusLink | undefined {
    return this.#pci?.link;
  }

  /**
   * Starts the workers. Each installs the system call filter at `filter` before it accesses a virtqueue.
   * `onReport` receives failures and messages of the devices and workers.
   */
  start(filter: HostPointer | undefined, onReport: (report: VirtioReport) => void): void {
    this.#started = true;
    // Not before: what is pending reaches the local APICs at once.
    for (const { placement } of this.devices)
      if (placement.pciSlot !== undefined) this.#pci!.apply(placement.pciSlot);
    for (const { worker, start } of this.#workers) {
      worker.onmessage = ({ data }: MessageEvent<VirtioReport>) => {
        if (data.kind === 'device-failed') this.devices[data.slot]!.failure = data.reason;
        onReport(data);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        onReport({ kind: 'worker-failed', message: event.message });
      };
      worker.postMessage({ ...start, filter });
    }
  }

  /**
   * Changes a running device. Resolves when its worker has made the change. Throws VoltError 'host' if it cannot,
   * such as while the devices are paused.
   */
  async change(device: MachineDevice, change: DeviceChange): Promise<void> {
    if (this.#phase !== 'running')
      throw new VoltError('host', 'Cannot change the device: the machine is being saved; try again');
    const slot = this.devices.indexOf(device);
    const worker = this.#workers.find(({ start }) => start.devices.some((each) => each.slot === slot))!;
    const { mailbox } = worker.start.devices.find((each) => each.slot === slot)!;
    await sendChange(mailbox, worker.controlFd, change);
    device.settings = noteChange(device.settings, change);
  }

  /**
   * Gives a running disk another file, with the settings of the first one. Throws VoltError 'image' if it cannot be used,
   * and 'host' if the disk cannot change.
   */
  async changeDiskFile(device: MachineDevice, path: string): Promise<void> {
    const { disk } = device;
    if (!disk)
      throw new VoltError(
        'usage',
        `Cannot change the file of ${device.config.id}: it is no disk whose file Volt serves`,
      );
    const file = disk.openOther(path);
    try {
      const sectors = Math.floor(file.shape.bytes / SECTOR_BYTES);
      await this.change(device, { kind: 'disk-file', fd: file.fd, sectors });
      disk.use(file, resolve(path));
      device.settings = { ...device.settings, path_on_host: disk.path };
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  }

  /** The input of a configuration with the settings that its devices have by now. */
  withCurrentSettings(input: Sections): Sections {
    const changed = this.devices.filter(({ settings }) => Object.keys(settings).length > 0);
    if (changed.length === 0) return input;
    return withChangedSettings(
      input,
      changed.map(({ config: { kind, id }, settings }) => ({ kind, id, settings })),
    );
  }

  /** Why the machine cannot be saved, in one line; undefined: it can. */
  refusal(): string | undefined {
    const other = this.devices.find(
      ({ description: { servedByBackend, backendIsStateless } }) => servedByBackend && !backendIsStateless,
    );
    if (other)
      return `device ${other.config.id} (${other.config.kind}) is served by another process, whose state Volt does not have; start the guest without it`;
    const written = this.#privateFiles.find(({ host, bytes }) => hasPrivatePages(host, bytes) !== false);
    return (
      written &&
      `the guest has written to device ${written.id} (pmem), which is read-only, and these writes are in no file; give it a writable copy`
    );
  }

  /**
   * Completes the I/O in flight and makes it durable. When this resolves, no device accesses guest memory, and
   * their clocks stand still. The vCPUs must have left the guest before. Throws VoltError 'usage' where
   * `refusal` gives a reason, and 'internal' when I/O does not complete in time; the devices go on then.
   */
  async pause(): Promise<void> {
    const refusal = this.refusal();
    if (refusal !== undefined) throw new VoltError('usage', `Cannot save the devices: ${refusal}`);
    this.#phase = 'pausing';
    try {
      if (this.#started) await pauseWorkers(this.#workers, ++this.#pauses);
      this.#phase = 'paused';
    } finally {
      if (this.#phase === 'pausing') this.#phase = 'running';
    }
  }

  /** Lets paused devices go on. */
  resume(): void {
    this.#phase = 'running';
    if (this.#started) resumeWorkers(this.#workers, this.#pauses);
  }

  /** State of the PCI bus itself; undefined: there is none. */
  saveBus(): SavedPciBus | undefined {
    return this.#pci?.saveBus();
  }

  /** State of the devices, in slot order. Throws VoltError 'internal' while they are not paused. */
  save(): SavedDevice[] {
    if (this.#phase !== 'paused')
      throw new VoltError('internal', 'Cannot save the devices: they are running; pause them first');
    return this.devices.map((device, slot) => {
      const saved = saveDevice(device, slot);
      const { pciSlot } = device.placement;
      return pciSlot === undefined ? saved : { ...saved, pci: this.#pci!.save(pciSlot, device.state) };
    });
  }

  /**
   * Stops all devices: completes I/O in flight and blocks until no worker accesses guest memory. Returns
   * false if a worker did not stop in time.
   */
  stop(): boolean {
    return !this.#started || stopWorkers(this.#workers);
  }

  /** Call it after `stop`. */
  [Symbol.dispose](): void {
    for (const { worker } of this.#workers.splice(0)) worker.terminate();
    this.#stack.dispose();
  }

  /** Creates the workers and assigns the devices to them. */
  #assignWorkers(
    served: readonly { device: ServedDevice; blocks: boolean }[],
    ram: readonly MappedRegion[],
    dirty: VirtioWorkerStart['dirty'],
  ): void {
    const dedicated = served.filter(({ blocks }) => blocks).map(({ device }) => [device]);
    const shared = served.filter(({ blocks }) => !blocks).map(({ device }) => device);
    const groups = shared.length > 0 ? [...dedicated, shared] : dedicated;
    for (const devices of groups) {
      const controlFd = this.#stack.use(createEventFd()).fd;
      for (const { slot } of devices) this.devices[slot]!.state.words[DEVICE_WORD.controlFd] = controlFd;
      const control = new SharedArrayBuffer(4 * WORKER_WORD.size);
      const name = devices.length === 1 ? `virtio-${devices[0]!.id}` : 'virtio';
      const worker = takeWorker(DEVICE_WORKER);
      const start = { control, controlFd, name, ram, dirty, devices };
      this.#workers.push({ worker, start, name, controlFd, words: new Int32Array(control) });
    }
  }
}
