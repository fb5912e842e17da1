/** The event loop of a device worker: an epoll instance and timers. */
import { Epoll } from '../../ffi/epoll.ts';
import type { EventSources } from './serve-device.ts';

interface Timer {
  readonly at: number;
  readonly handler: () => void;
}

/** That of epoll_wait, an int; a limiter may ask for more. */
const MAX_WAIT_MS = 2 ** 31 - 1;

export class EventLoop implements EventSources, Disposable {
  readonly #epoll = new Epoll();
  readonly #timers = new Set<Timer>();
  readonly #releases = new DisposableStack();
  /** Milliseconds spent in `hold`. */
  #heldMs = 0;

  watch(fd: number, events: number, handler: (events: number) => void): void {
    this.#epoll.add(fd, events, handler);
  }

  changeWatch(fd: number, events: number): void {
    this.#epoll.change(fd, events);
  }

  unwatch(fd: number): void {
    this.#epoll.remove(fd);
  }

  now(): number {
    return performance.now() - this.#heldMs;
  }

  after(delayMs: number, handler: () => void): () => void {
    const timer = { at: this.now() + delayMs, handler };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Waits until a descriptor is ready or a timer expires, and calls the handlers. */
  runOnce(): void {
    this.#epoll.wait(this.#timers.size === 0 ? -1 : this.#untilNextTimer());
    if (this.#timers.size > 0) this.#runTimers();
  }

  /** Calls `blocking`, during which this loop's clock and timers stand still. */
  hold(blocking: () => void): void {
    const start = performance.now();
    blocking();
    this.#heldMs += performance.now() - start;
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
    return Math.min(MAX_WAIT_MS, Math.max(0, Math.ceil(next - this.now())));
  }

  #runTimers(): void {
    const now = this.now();
    for (const timer of [...this.#timers]) {
      if (timer.at <= now && this.#timers.delete(timer)) timer.handler();
    }
  }
}
