/**
 * The virtio devices of one machine, on the main thread: their state, their eventfds in KVM, and the device
 * workers. A device whose I/O may block gets its own worker; all others share one.
 */
import { createEventFd, signalEventFd } from '../../ffi/epoll.ts';
import type { HostPointer } from '../../ffi/libc.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { offsetAddress } from '../../machine/address.ts';
import type { GuestMemory, MemoryRegion } from '../../memory/guest-memory.ts';
import { workerUrl } from '../../runtime/worker-url.ts';
import type { BalloonControl } from '../balloon/control.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import { createDeviceState, type DeviceState } from '../transport/device-state.ts';
import type { DeviceDescription } from '../transport/device.ts';
import { MMIO_REGISTER } from '../transport/mmio.regs.ts';
import type { VirtioLink } from './bus.ts';
import type { OpenDevices } from './open.ts';
import { placeDevices, type SlotPlacement } from './placement.ts';
import type { DeviceConfig } from './specs.ts';
import { WORKER_WORD, type ServedDevice, type VirtioReport, type VirtioWorkerStart } from './worker-start.ts';

export interface MachineDevice {
  readonly config: DeviceConfig;
  readonly placement: SlotPlacement;
  readonly description: DeviceDescription;
  readonly state: DeviceState;
  readonly balloon: BalloonControl | undefined;
  /** Reason of the last failure. */
  failure: string | undefined;
}

/** Resources of the host and the machine that the devices need. */
export interface DeviceSetOptions {
  readonly configs: readonly DeviceConfig[];
  readonly open: OpenDevices;
  readonly pmem: readonly PmemPlacement[];
  readonly vm: KvmVm;
  readonly memory: GuestMemory;
}

interface DeviceWorker {
  readonly worker: Worker;
  readonly start: Omit<VirtioWorkerStart, 'filter'>;
  readonly words: Int32Array;
}

/** How long `stop` waits for I/O in flight. */
const STOP_TIMEOUT_MS = 10_000;

export class DeviceSet implements Disposable {
  readonly devices: readonly MachineDevice[];
  /** What vCPU workers need to reach the devices, in slot order. */
  readonly links: readonly VirtioLink[];
  readonly #stack = new DisposableStack();
  readonly #workers: DeviceWorker[] = [];
  #started = false;

  /** Opens the devices that are not open yet. Throws VoltError if one cannot be opened. */
  constructor({ configs, open, pmem, vm, memory }: DeviceSetOptions) {
    try {
      const placements = placeDevices(configs);
      const devices: MachineDevice[] = [];
      const served: { device: ServedDevice; blocks: boolean }[] = [];
      // Persistent memory is RAM to devices: a driver may place virtqueues and buffers in it.
      const regions: MemoryRegion[] = [...memory.regions];
      configs.forEach((config, slot) => {
        const placement = placements[slot]!;
        const { description, start, blocks, balloon, mapRegion } = open.open(config, pmem);
        if (mapRegion) {
          const { address, bytes } = pmem.find(({ id }) => id === config.id)!;
          const region = { address, bytes, host: this.#stack.use(mapRegion()).address, fd: undefined };
          vm.setMemorySlot(regions.length, region.address, region.bytes, region.host);
          regions.push(region);
        }
        const state = createDeviceState(description);
        const interrupt = this.#stack.use(createEventFd());
        vm.addIrqFd(placement.gsi, interrupt.fd);
        const queueFds = description.queueSizes.map((_, queue) => {
          const event = this.#stack.use(createEventFd());
          vm.addIoEventFd(offsetAddress(placement.address, MMIO_REGISTER.queueNotify), queue, event.fd);
          return event.fd;
        });
        devices.push({ config, placement, description, state, balloon, failure: undefined });
        const { kind, id } = config;
        const { buffer } = state;
        const device = { kind, slot, id, buffer, queueFds, interruptFd: interrupt.fd, start };
        served.push({ device, blocks });
      });
      this.devices = devices;
      this.links = this.#assignWorkers(served, regions);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Starts the workers. Each installs the system call filter at `filter` before it accesses a virtqueue.
   * `onReport` receives failures and messages of the devices and workers.
   */
  start(filter: HostPointer | undefined, onReport: (report: VirtioReport) => void): void {
    this.#started = true;
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
   * Stops all devices: completes I/O in flight and blocks until no worker accesses guest memory. Returns
   * false if a worker did not stop in time.
   */
  stop(): boolean {
    if (!this.#started) return true;
    for (const { words, start } of this.#workers) {
      Atomics.store(words, WORKER_WORD.stopWanted, 1);
      signalEventFd(start.controlFd);
    }
    const deadline = performance.now() + STOP_TIMEOUT_MS;
    return this.#workers.every(({ words }) => {
      while (Atomics.load(words, WORKER_WORD.stopped) === 0) {
        const left = deadline - performance.now();
        if (left <= 0) return false;
        Atomics.wait(words, WORKER_WORD.stopped, 0, left);
      }
      return true;
    });
  }

  /** Call it after `stop`. */
  [Symbol.dispose](): void {
    for (const { worker } of this.#workers.splice(0)) worker.terminate();
    this.#stack.dispose();
  }

  /** Creates the workers and assigns the devices to them. Returns the links in slot order. */
  #assignWorkers(
    served: readonly { device: ServedDevice; blocks: boolean }[],
    ram: readonly MemoryRegion[],
  ): VirtioLink[] {
    const dedicated = served.filter(({ blocks }) => blocks).map(({ device }) => [device]);
    const shared = served.filter(({ blocks }) => !blocks).map(({ device }) => device);
    const groups = shared.length > 0 ? [...dedicated, shared] : dedicated;
    const controlOf = new Map<ServedDevice, number>();
    for (const devices of groups) {
      const controlFd = this.#stack.use(createEventFd()).fd;
      for (const device of devices) controlOf.set(device, controlFd);
      const control = new SharedArrayBuffer(4 * WORKER_WORD.size);
      const name = devices.length === 1 ? `virtio-${devices[0]!.id}` : 'virtio';
      const worker = new Worker(workerUrl('virtio/host/worker'), { smol: true });
      const start = { control, controlFd, name, ram, devices };
      this.#workers.push({ worker, start, words: new Int32Array(control) });
    }
    return served.map(({ device }) => ({
      buffer: device.buffer,
      queueCount: device.queueFds.length,
      controlFd: controlOf.get(device)!,
      queueFds: device.queueFds,
    }));
  }
}
