/** Contract of a device's `serve.ts`, which runs on the device worker: from open files to a device that runs. */
import type { VirtioDevice } from '../transport/device.ts';

/** One region of the guest's memory, mapped at `host`; `fd` is there where other processes may map it too. */
export interface RamRegion {
  readonly address: number;
  readonly bytes: number;
  readonly host: number;
  readonly fd: number | undefined;
}

/** What the worker's event loop offers its devices: file descriptors to wait for, and timers. */
export interface EventSources {
  /** `events` of EPOLL; the handler runs on the worker, between requests. */
  watch(fd: number, events: number, handler: (events: number) => void): void;
  changeWatch(fd: number, events: number): void;
  /** To be called before the descriptor is closed. */
  unwatch(fd: number): void;
  /** Calls `handler` once, `delayMs` from now or a little later. Returns a function that cancels it. */
  after(delayMs: number, handler: () => void): () => void;
  /** Calls `release` when the worker ends, after the devices were stopped. */
  atEnd(release: () => void): void;
}

/** What a device may use of its worker and of the machine. */
export interface ServeContext {
  readonly events: EventSources;
  readonly ram: readonly RamRegion[];
  /** Eventfds that KVM signals when the driver notifies a queue. */
  readonly queueFds: readonly number[];
  /** Eventfd that raises the device's interrupt. */
  readonly interruptFd: number;
  /** Tells people, in a sentence without the device's id, what became of the device. */
  readonly report: (text: string) => void;
}

export type ServeFunction<Start> = (start: Start, context: ServeContext) => VirtioDevice;
