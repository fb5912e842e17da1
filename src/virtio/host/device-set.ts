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
import { VoltError } from '../../volt-error.ts';
import { SECTOR_BYTES } from '../block/regs.ts';
import type { HotplugStart } from '../mem/hotplug-start.ts';
import type { MemPlacement } from '../mem/shape.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import { createDeviceState, DEVICE_WORD } from '../transport/device-state.ts';
import type { DeviceChange } from '../transport/device-change.ts';
import type { VirtioLink } from './bus.ts';
import { changedDevices, currentSections, orderDevices, type Sections } from './current-config.ts';
import { wireMmioDevice, type DeviceFds } from './device-fds.ts';
import type { JsonObject } from './device-spec.ts';
import type { OpenDevice } from './open-device.ts';
import { createMailbox, sendChange } from './mailbox.ts';
import type { OpenDevices } from './open.ts';
import type { PciBusLink } from './pci-bus.ts';
import { PciHost, type SavedPciBus } from './pci-host.ts';
import { placeDevices, placePciSlot, type PciBusPlan } from './placement.ts';
import type { MappedRegion } from './serve-device.ts';
import { noteChange } from './current-settings.ts';
import type { MachineDevice } from './machine-device.ts';
import type { DeviceConfig } from './specs.ts';
import { checkSavedDevices, restoreDevice, saveDevice } from './save-device.ts';
import type { SavedDevice } from './saved-device.ts';
import { pauseWorkers, resumeWorkers, stopWorkers, type WorkerHandle } from './worker-control.ts';
import { WORKER_WORD, type ServedDevice, type VirtioReport, type VirtioWorkerStart } from './worker-start.ts';

/** Entry point of a device worker. */
export const DEVICE_WORKER = 'virtio/host/worker';

export type { MachineDevice };

/** Resources of the host and the machine that the devices need. */
export interface DeviceSetOptions {
  readonly configs: readonly DeviceConfig[];
  readonly open: OpenDevices;
  readonly pmem: readonly PmemPlacement[];
  /** Hotpluggable memory, which is the last region of `memory`. */
  readonly hotplug?: MemPlacement | undefined;
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

interface DeviceWorker extends WorkerHandle {
  readonly worker: Worker;
  readonly start: Omit<VirtioWorkerStart, 'filter'>;
}

export class DeviceSet implements Disposable {
  readonly #devices: MachineDevice[] = [];
  /** For the log, at level info. */
  readonly notes: readonly string[];
  /** What vCPU workers need to reach the devices on MMIO, in slot order. */
  readonly links: readonly VirtioLink[];
  readonly #pci: PciHost | undefined;
  readonly #stack = new DisposableStack();
  readonly #workers: DeviceWorker[] = [];
  /** What workers are given besides their devices. */
  readonly #shared: Pick<VirtioWorkerStart, 'ram' | 'dirty' | 'hotplug'>;
  /** Eventfds of devices that were plugged. */
  readonly #plugged = new Map<MachineDevice, DisposableStack>();
  #filter: HostPointer | undefined;
  #onReport: (report: VirtioReport) => void = () => {};
  #nextNumber = 0;
  /** Whether devices were plugged or removed since the machine was made. */
  #hasChanged = false;
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
      const { pci, restoredPci, hotplug, isEnding = () => false } = options;
      const placements = placeDevices(configs, { pci });
      const ramEnd = Math.max(...memory.regions.map(({ address, bytes }) => address + bytes));
      const opened = configs.map((config) => open.open(config, pmem, { ramEnd, hotplug }));
      this.notes = opened.flatMap(({ note }, i) =>
        note === undefined ? [] : [`${configs[i]!.id}: ${note}`],
      );
      const loggers = opened.flatMap(({ trackWrites }) => (trackWrites ? [trackWrites] : []));
      if (loggers.length > 0)
        memory.dirtyPages.onTracking((on) => loggers.forEach((trackWrites) => trackWrites(on)));
      this.#pci =
        pci &&
        new PciHost(
          vm.fd,
          pci,
          opened.map(({ description }) => description),
          isEnding,
        );
      const served: { device: ServedDevice; blocks: boolean }[] = [];
      // Persistent memory is RAM to devices: a driver may place virtqueues and buffers in it.
      const regions: MappedRegion[] = [...memory.regions];
      if (restoredPci) this.#pci?.restoreBus(restoredPci);
      configs.forEach((config, slot) => {
        const placement = placements[slot]!;
        const { description, start, blocks, balloon, disk, mem, mapRegion } = opened[slot]!;
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
          if (memory.hotplug) mem?.restore(state, vm, memory.hotplug);
        } else mem?.powerOn(state);
        const fds = host
          ? host.powerOn(pciSlot!, description, state, this.#stack)
          : wireMmioDevice(vm, placement, state, this.#stack);
        if (host && saved) host.restore(pciSlot!, description, state, saved);
        const failure = saved?.failure;
        const number = this.#nextNumber++;
        const settings = {};
        const device = {
          config,
          placement,
          description,
          state,
          balloon,
          disk,
          mem,
          number,
          failure,
          settings,
        };
        this.#devices.push(device);
        served.push({ device: this.#describeServed(device, fds, start), blocks });
      });
      const { bytes: ramBytes, dirtyPages } = memory;
      const dirty = { buffer: dirtyPages.buffer, ramBytes };
      this.#shared = { ram: regions, dirty, hotplug: hotplugStart(vm, memory) };
      this.#assignWorkers(served);
      this.links = pci
        ? []
        : this.#devices.map(({ state }) => ({ buffer: state.buffer, queueCount: state.queueCount }));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The devices that the machine has now, in the order in which they came. */
  get devices(): readonly MachineDevice[] {
    return this.#devices;
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
    this.#filter = filter;
    this.#onReport = onReport;
    for (const worker of this.#workers) this.#startWorker(worker);
  }

  #startWorker({ worker, start }: DeviceWorker): void {
    worker.onmessage = ({ data }: MessageEvent<VirtioReport>) => {
      const device =
        data.kind === 'device-failed' && this.#devices.find(({ number }) => number === data.number);
      if (device) device.failure = data.reason;
      this.#onReport(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#onReport({ kind: 'worker-failed', message: event.message });
    };
    worker.postMessage({ ...start, filter: this.#filter });
  }

  /**
   * Puts a device into a free slot of the PCI bus and starts a worker for it; the guest is not told. `item` describes
   * it in a configuration file. Throws VoltError 'usage' where there is no PCI bus or no free slot.
   */
  add(
    config: DeviceConfig,
    item: JsonObject,
    { description, start, disk, balloon }: OpenDevice,
  ): MachineDevice {
    const fail = (found: string) => new VoltError('usage', `Cannot plug ${config.id}: ${found}`);
    const host = this.#pci;
    if (!host) throw fail('the guest has no PCI bus; start it with --pci');
    if (this.#phase !== 'running' || !this.#started) throw fail('the machine is being saved; try again');
    const taken = this.#devices.map(({ placement }) => placement.pciSlot!);
    const slot = host.findFreeSlot(description.queueSizes.length, taken);
    if (slot === undefined) throw fail('no slot with room for it is free; unplug another device');
    const owned = new DisposableStack();
    const state = host.createState(slot, description);
    const number = this.#nextNumber++;
    const rest = {
      config,
      item,
      description,
      state,
      balloon,
      disk,
      mem: undefined,
      number,
      failure: undefined,
      settings: {},
    };
    const device: MachineDevice = { ...rest, placement: placePciSlot(slot) };
    const fds = host.powerOn(slot, description, state, owned);
    this.#devices.push(device);
    this.#plugged.set(device, owned);
    this.#hasChanged = true;
    this.#startWorker(this.#createWorker([this.#describeServed(device, fds, start)]));
    return device;
  }

  /**
   * Forgets a device that has no slot any more, and ends its worker, if it has one of its own. Returns whether it did:
   * otherwise its files are in use until the machine ends.
   */
  remove(device: MachineDevice): boolean {
    this.#devices.splice(this.#devices.indexOf(device), 1);
    this.#hasChanged = true;
    const at = this.#workers.findIndex(
      ({ start }) => start.devices.length === 1 && start.devices[0]!.number === device.number,
    );
    if (at < 0) return false;
    const [worker] = this.#workers.splice(at, 1);
    if (!stopWorkers([worker!])) return false;
    worker!.worker.terminate();
    this.#plugged.get(device)?.dispose();
    this.#plugged.delete(device);
    return true;
  }

  /**
   * Changes a running device. Resolves when its worker has made the change. Throws VoltError 'host' if it cannot,
   * such as while the devices are paused.
   */
  async change(device: MachineDevice, change: DeviceChange): Promise<void> {
    if (this.#phase !== 'running')
      throw new VoltError('host', 'Cannot change the device: the machine is being saved; try again');
    const { number } = device;
    const worker = this.#workers.find(({ start }) => start.devices.some((each) => each.number === number))!;
    const { mailbox } = worker.start.devices.find((each) => each.number === number)!;
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

  /** The input of a configuration with the devices that there are by now, and their settings. */
  currentInput(input: Sections): Sections {
    return currentSections(input, this.#devices, this.#hasChanged);
  }

  /** Of a configuration, what plugging and unplugging have changed. */
  get changedConfig(): ReturnType<typeof changedDevices> | undefined {
    return this.#hasChanged ? changedDevices(this.#devices) : undefined;
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
    return orderDevices(this.#devices).map((device, slot) => {
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
    for (const owned of this.#plugged.values()) owned.dispose();
    this.#stack.dispose();
  }

  /** Creates the workers and assigns the devices to them. */
  #assignWorkers(served: readonly { device: ServedDevice; blocks: boolean }[]): void {
    const dedicated = served.filter(({ blocks }) => blocks).map(({ device }) => [device]);
    const shared = served.filter(({ blocks }) => !blocks).map(({ device }) => device);
    const groups = shared.length > 0 ? [...dedicated, shared] : dedicated;
    for (const devices of groups) this.#createWorker(devices);
  }

  #createWorker(devices: readonly ServedDevice[]): DeviceWorker {
    const controlFd = this.#stack.use(createEventFd()).fd;
    for (const { number } of devices) {
      const { state } = this.#devices.find((each) => each.number === number)!;
      state.words[DEVICE_WORD.controlFd] = controlFd;
    }
    const control = new SharedArrayBuffer(4 * WORKER_WORD.size);
    const name = devices.length === 1 ? `virtio-${devices[0]!.id}` : 'virtio';
    const start = { control, controlFd, name, ...this.#shared, devices };
    const words = new Int32Array(control);
    const created = { worker: takeWorker(DEVICE_WORKER), start, name, controlFd, words };
    this.#workers.push(created);
    return created;
  }

  #describeServed(
    { config, state, number, placement }: MachineDevice,
    fds: DeviceFds,
    start: unknown,
  ): ServedDevice {
    const { pciSlot } = placement;
    const { kind, id } = config;
    const queueCapacity = pciSlot === undefined ? state.queueCount : this.#pci!.queueCapacity(pciSlot);
    const { buffer } = state;
    return { kind, number, id, buffer, queueCapacity, mailbox: createMailbox(), fds, start };
  }
}

function hotplugStart(vm: KvmVm, { hotplug, hugepages, regions }: GuestMemory): HotplugStart | undefined {
  if (!hotplug) return undefined;
  const { region, buffer } = hotplug;
  const isShared = regions.at(-1)!.fd !== undefined;
  return { vmFd: vm.fd, region, buffer, kind: isShared ? 'shared' : hugepages ? 'hugepages' : 'private' };
}
