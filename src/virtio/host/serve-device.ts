/** Interface of a device's `serve.ts`, which creates the device from its open files on a device worker. */
import type { DirtyPages } from '../../machine/dirty-pages.ts';
import type { HotplugStart } from '../mem/hotplug-start.ts';
import type { VirtioDevice } from '../transport/device.ts';

/** One region of guest RAM, mapped at `host`. `fd`: file descriptor from which other processes can map it. */
export interface MappedRegion {
  readonly address: number;
  readonly bytes: number;
  readonly host: number;
  readonly fd: number | undefined;
}

/** The worker's event loop: file descriptors and timers that devices wait for. */
export interface EventSources {
  /** Calls `handler` on the worker for `events`, which are EPOLL bits. */
  watch(fd: number, events: number, handler: (events: number) => void): void;
  changeWatch(fd: number, events: number): void;
  /** Call it before closing the descriptor. */
  unwatch(fd: number): void;
  /** Milliseconds of a monotonic clock that stands still while the machine is paused. */
  now(): number;
  /** Calls `handler` once, after at least `delayMs` by that clock. Returns a function that cancels the timer. */
  after(delayMs: number, handler: () => void): () => void;
  /** Calls `release` when the worker ends, after its devices have stopped. */
  atEnd(release: () => void): void;
}

/** Resources of the worker and the machine that a device may use. */
export interface ServeContext {
  readonly events: EventSources;
  readonly ram: readonly MappedRegion[];
  /** Eventfd of each queue, which KVM signals when the driver notifies the queue. */
  readonly queueFds: readonly number[];
  /**
   * Eventfd of each queue, by which whoever uses its buffers in the device's place notifies the driver. On MMIO it is
   * the same for all.
   */
  readonly callFds: readonly number[];
  /** Pages that Volt writes, of the regions of guest RAM one after the other. */
  readonly dirty: DirtyPages;
  /** Hotpluggable memory. */
  readonly hotplug: HotplugStart | undefined;
  /** Reports a change of the device to the user. `text` is a clause that follows the device's id. */
  readonly report: (text: string) => void;
}

export type ServeFunction<Start> = (start: Start, context: ServeContext) => VirtioDevice;
