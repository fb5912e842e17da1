/** What a device worker gives its devices: file descriptors to wait for, and timers. */
import { Epoll } from '../../ffi/epoll.ts';

export interface DeviceServices {
  /** `events` of EPOLL; the handler runs on the worker, between kicks. */
  watch(fd: number, events: number, handler: (events: number) => void): void;
  changeWatch(fd: number, events: number): void;
  /** Before the descriptor is closed. */
  unwatch(fd: number): void;
  /** Calls `handler` once, `delayMs` from now or a little later. Returns what takes that back. */
  after(delayMs: number, handler: () => void): () => void;
  /** Calls `release` when the worker ends, after the devices were stopped. */
  atEnd(release: () => void): void;
}

interface Timer {
  readonly at: number;
  readonly handler: () => void;
}

/** The loop's two sources of work. */
export class WorkerServices implements DeviceServices, Disposable {
  readonly #epoll = new Epoll();
  readonly #timers = new Set<Timer>();
  readonly #releases = new DisposableStack();

  watch(fd: number, events: number, handler: (events: number) => void): void {
    this.#epoll.add(fd, events, handler);
  }

  changeWatch(fd: number, events: number): void {
    this.#epoll.change(fd, events);
  }

  unwatch(fd: number): void {
    this.#epoll.remove(fd);
  }

  after(delayMs: number, handler: () => void): () => void {
    const timer = { at: performance.now() + delayMs, handler };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Waits for something to do, and does it. */
  turn(): void {
    this.#epoll.wait(this.#timers.size === 0 ? -1 : this.#untilNextTimer());
    if (this.#timers.size > 0) this.#runTimers();
  }

  atEnd(release: () => void): void {
    this.#releases.defer(release);
  }

  [Symbol.dispose](): void {
    this.#releases.dispose();
    this.#epoll[Symbol.dispose]();
  }

  #untilNextTimer(): number {
    let next = Infinity;
    for (const { at } of this.#timers) next = Math.min(next, at);
    return Math.max(0, Math.ceil(next - performance.now()));
  }

  #runTimers(): void {
    const now = performance.now();
    for (const timer of [...this.#timers]) {
      if (timer.at <= now && this.#timers.delete(timer)) timer.handler();
    }
  }
}
