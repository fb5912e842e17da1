/**
 * The virtio devices of one machine, as the main thread sees them: their state, their eventfds in KVM, the workers
 * that run them.
 *
 * A device whose I/O may block gets a worker of its own, so that it holds up nobody; all others share one.
 */
import { createDeviceState, type DeviceState } from '../transport/device-state.ts';
import type { DeviceFacts } from '../transport/device.ts';
import { MMIO_REGISTER } from '../transport/mmio.regs.ts';
import { createEventFd, signalEventFd } from '../../ffi/epoll.ts';
import type { HostPointer } from '../../ffi/libc.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { offsetAddress } from '../../machine/address.ts';
import type { GuestMemory, RegionFacts } from '../../memory/guest-memory.ts';
import type { BalloonControl } from '../balloon/control.ts';
import type { DeviceConfig } from './spec-registry.ts';
import { openDevice } from './open-registry.ts';
import type { PmemPlace } from '../pmem/placement.ts';
import type { VirtioLink } from './bus.ts';
import {
  WORKER_WORD,
  type DeviceSeat,
  type DeviceStart,
  type VirtioReport,
  type VirtioWorkerStart,
} from './link.ts';
import { planVirtio, type VirtioPlace } from './placement.ts';
import { workerUrl } from '../../runtime/worker-url.ts';

/** A device whose files are open: what the driver will find, and what the worker needs. */
export interface OpenDevice {
  readonly facts: DeviceFacts;
  readonly start: DeviceStart;
  /** Whether serving it may block for long. */
  readonly blocks: boolean;
  /** Of a balloon: what steers it while it runs. */
  readonly balloon?: BalloonControl;
  /** Of persistent memory: what the guest is to have mapped, besides its RAM. */
  readonly region?: RegionFacts;
  /** Closes its files, after the worker has stopped. */
  close(): void;
}

export interface MachineDevice {
  readonly config: DeviceConfig;
  readonly place: VirtioPlace;
  readonly facts: DeviceFacts;
  readonly state: DeviceState;
  readonly balloon: BalloonControl | undefined;
  /** Why it gave up on its driver last. */
  failure: string | undefined;
}

interface DeviceWorker {
  readonly worker: Worker;
  readonly start: Omit<VirtioWorkerStart, 'filter'>;
  readonly words: Int32Array;
}

/** How long the end of a VM waits for I/O that is in flight. */
const STOP_TIMEOUT_MS = 10_000;

export class VirtioMachine implements Disposable {
  readonly devices: readonly MachineDevice[];
  /** What vCPU workers need to reach the devices. */
  readonly links: readonly VirtioLink[];
  readonly #stack = new DisposableStack();
  readonly #workers: DeviceWorker[] = [];
  #filter: HostPointer | undefined;
  #started = false;

  /** Opens what the devices stand for. Throws VoltError for what cannot be opened; nothing is left behind then. */
  constructor(configs: readonly DeviceConfig[], pmem: readonly PmemPlace[], vm: KvmVm, memory: GuestMemory) {
    try {
      const places = planVirtio(configs);
      const devices: MachineDevice[] = [];
      const seats: { seat: DeviceSeat; blocks: boolean }[] = [];
      // For devices all of it is RAM, in which drivers may have rings and buffers.
      const regions: RegionFacts[] = [...memory.regions];
      configs.forEach((config, i) => {
        const place = places[i]!;
        const { facts, start, blocks, balloon, region } = this.#stack.adopt(
          openDevice(config, pmem),
          (device) => device.close(),
        );
        if (region) {
          vm.setMemorySlot(regions.length, region.address, region.bytes, region.host);
          regions.push(region);
        }
        const state = createDeviceState(facts);
        const interrupt = this.#stack.use(createEventFd());
        vm.addIrqFd(place.gsi, interrupt.fd);
        const queueFds = facts.queueSizes.map((_, queue) => {
          const event = this.#stack.use(createEventFd());
          vm.addIoEventFd(offsetAddress(place.address, MMIO_REGISTER.queueNotify), queue, event.fd);
          return event.fd;
        });
        devices.push({ config, place, facts, state, balloon, failure: undefined });
        const seat = {
          id: config.id,
          buffer: state.buffer,
          queueFds,
          interruptFd: interrupt.fd,
          device: start,
        };
        seats.push({ seat, blocks });
      });
      this.devices = devices;
      this.links = this.#seat(seats, regions);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Every worker lays this placed filter over itself before it looks at a ring. Before `start`. */
  confine(filter: HostPointer): void {
    this.#filter = filter;
  }

  /** Lets the workers run. `onReport` is told what goes wrong in them. */
  start(onReport: (report: VirtioReport) => void): void {
    this.#started = true;
    for (const { worker, start } of this.#workers) {
      worker.onmessage = ({ data }: MessageEvent<VirtioReport>) => {
        if (data.kind === 'device-failed') this.#noteFailure(data.id, data.reason);
        onReport(data);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        onReport({ kind: 'failed', message: event.message });
      };
      worker.postMessage({ ...start, filter: this.#filter });
    }
  }

  /**
   * Stops all devices and blocks until their workers touch guest memory no more; what was in flight is finished.
   * False when one would not stop.
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

  /** After `stop`. */
  [Symbol.dispose](): void {
    for (const { worker } of this.#workers.splice(0)) worker.terminate();
    this.#stack.dispose();
  }

  /** Gives each device its worker; returns how vCPUs reach them, in the order of the devices. */
  #seat(seats: readonly { seat: DeviceSeat; blocks: boolean }[], ram: readonly RegionFacts[]): VirtioLink[] {
    const alone = seats.filter(({ blocks }) => blocks).map(({ seat }) => [seat]);
    const together = seats.filter(({ blocks }) => !blocks).map(({ seat }) => seat);
    const groups = together.length > 0 ? [...alone, together] : alone;
    const controlOf = new Map<DeviceSeat, number>();
    for (const group of groups) {
      const controlFd = this.#stack.use(createEventFd()).fd;
      for (const seat of group) controlOf.set(seat, controlFd);
      const control = new SharedArrayBuffer(4 * WORKER_WORD.size);
      const name = group.length === 1 ? `virtio-${group[0]!.id}` : 'virtio';
      const start = { control, controlFd, name, ram, seats: group };
      const worker = new Worker(workerUrl('virtio/host/worker'), { smol: true });
      this.#workers.push({ worker, start, words: new Int32Array(control) });
    }
    return seats.map(({ seat }) => ({
      buffer: seat.buffer,
      queueCount: seat.queueFds.length,
      controlFd: controlOf.get(seat)!,
      queueFds: seat.queueFds,
    }));
  }

  #noteFailure(id: string, reason: string): void {
    const device = this.devices.find(({ config }) => config.id === id);
    if (device) device.failure = reason;
  }
}
