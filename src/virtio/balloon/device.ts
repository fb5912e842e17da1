/** The balloon: takes pages that the guest gives, and hands their memory back to the host. (Virtual I/O Device 1.2 §5.5) */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { BALLOON_COUNTER, BALLOON_WORD, type BalloonState } from './state.ts';
import {
  BALLOON_CONFIG,
  BALLOON_FEATURE as F,
  BALLOON_PAGE_BYTES,
  BALLOON_QUEUE as Q,
  BALLOON_STAT,
  BALLOON_STAT_NAMES,
} from './regs.ts';
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';

const QUEUE_SIZE = 128;
/** Page numbers in one request; Linux sends 256. More are not looked at, which a driver cannot tell from luck. */
const MAX_PAGES = 4096;
/** The longest statistics that are looked at; more tags than there are do not help anybody. */
const MAX_STATS_BYTES = 64 * BALLOON_STAT.size;
const CHAINS_AT_ONCE = 64;

export interface BalloonOptions {
  readonly pages: number;
  /** The guest may take pages back by itself before it runs out of memory. */
  readonly deflateOnOom: boolean;
  /** 0: none. */
  readonly statsSeconds: number;
}

export interface BalloonEffects {
  /** The host may have this memory; it reads as zeroes, or as what its file has, from now on. */
  release(host: number, bytes: number): void;
  after(delayMs: number, handler: () => void): () => void;
}

export function describeBalloon({ pages, deflateOnOom, statsSeconds }: BalloonOptions): DeviceDescription {
  const config = new Uint8Array(BALLOON_CONFIG.size);
  new DataView(config.buffer).setUint32(BALLOON_CONFIG.pageCount, pages, true);
  return {
    type: DEVICE_TYPE.balloon,
    features: [
      F.pageReporting,
      ...(statsSeconds > 0 ? [F.statsVq] : []),
      ...(deflateOnOom ? [F.deflateOnOom] : []),
    ],
    queueSizes: [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, ...(statsSeconds > 0 ? [QUEUE_SIZE] : [])],
    config,
    writableConfig: { offset: BALLOON_CONFIG.actual, bytes: 4 },
  };
}

export class BalloonDevice implements VirtioDevice {
  readonly #state: BalloonState;
  readonly #effects: BalloonEffects;
  readonly #statsSeconds: number;
  readonly #chain = new Chain();
  readonly #pages = new Uint8Array(4 * MAX_PAGES);
  readonly #pagesView = new DataView(this.#pages.buffer);
  #context: DeviceContext | undefined;
  #statsQueue = -1;
  #reportingQueue = -1;
  /** The chain that the driver fills again when it gets it back; -1: none. */
  #heldStats = -1;
  #cancelPoll: (() => void) | undefined;
  readonly #again = new Map<number, () => void>();

  constructor(state: BalloonState, effects: BalloonEffects, statsSeconds: number) {
    this.#state = state;
    this.#effects = effects;
    this.#statsSeconds = statsSeconds;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    const stats = context.hasFeature(F.statsVq);
    this.#statsQueue = stats ? 2 : -1;
    this.#reportingQueue = context.hasFeature(F.pageReporting) ? (stats ? 3 : 2) : -1;
    this.follow();
    if (stats) this.#pollLater();
  }

  reset(): void {
    this.#context = undefined;
    this.#heldStats = -1;
    this.#cancelPoll?.();
    for (const cancel of this.#again.values()) cancel();
    this.#again.clear();
    Atomics.store(this.#state.words, BALLOON_WORD.actualPages, 0);
  }

  /** Tells the driver the size that is wanted now. */
  follow(): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, Atomics.load(this.#state.words, BALLOON_WORD.wantedPages), true);
    this.#context?.setConfig(BALLOON_CONFIG.pageCount, bytes);
  }

  /** The driver says how many pages it has given. */
  configWritten(): void {
    const context = this.#context;
    if (!context) return;
    let pages = 0;
    for (let i = 3; i >= 0; i--) pages = (pages << 8) | context.config(BALLOON_CONFIG.actual + i);
    Atomics.store(this.#state.words, BALLOON_WORD.actualPages, pages);
  }

  processQueue(queue: number): void {
    if (queue === this.#statsQueue) this.#takeStats();
    else if (queue === Q.inflate) this.#serve(queue, () => this.#inflate());
    else if (queue === Q.deflate) this.#serve(queue, () => true);
    else if (queue === this.#reportingQueue) this.#serve(queue, () => this.#takeReport());
  }

  /** Hands back every chain, after `act` on #chain, which is false for one that no driver makes. */
  #serve(index: number, act: () => boolean): void {
    const context = this.#context;
    const queue = context?.queues[index];
    if (!context || !queue || this.#again.has(index)) return;
    let left = CHAINS_AT_ONCE;
    do {
      queue.disableNotifications();
      for (;;) {
        if (left-- === 0) {
          context.interrupt(index);
          this.#again.set(
            index,
            this.#effects.after(0, () => {
              this.#again.delete(index);
              this.#serve(index, act);
            }),
          );
          return;
        }
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail(`its queue ${index} makes no sense`);
        if (!act()) return context.fail(`queue ${index} offers pages that are not RAM`);
        queue.pushUsed(this.#chain.id, 0);
        context.count(index, this.#chain.readableBytes, 0);
      }
      context.interrupt(index);
    } while (queue.enableNotifications());
  }

  /** Releases pages by number, neighbours together: Linux often has many in a row, down or up. */
  #inflate(): boolean {
    const { ram } = this.#context!;
    const count = Math.floor(this.#chain.copyOut(ram, 0, this.#pages) / 4);
    let [start, pages] = [0, 0];
    for (let i = 0; i < count; i++) {
      const page = this.#pagesView.getUint32(4 * i, true);
      if (pages > 0 && page === start + pages) {
        pages++;
      } else if (pages > 0 && page === start - 1) {
        start--;
        pages++;
      } else {
        if (!this.#releasePages(start, pages)) return false;
        [start, pages] = [page, 1];
      }
    }
    return this.#releasePages(start, pages);
  }

  #releasePages(start: number, pages: number): boolean {
    if (pages === 0) return true;
    const bytes = pages * BALLOON_PAGE_BYTES;
    const host = this.#context!.ram.hostAddress(start * BALLOON_PAGE_BYTES, bytes);
    // Neighbours may lie in two regions of RAM.
    if (host === 0)
      return pages > 1 && this.#releasePages(start, 1) && this.#releasePages(start + 1, pages - 1);
    this.#effects.release(host, bytes);
    this.#count(BALLOON_COUNTER.inflatedBytes, bytes);
    return true;
  }

  /** Free pages, which the guest keeps: whole buffers, as Linux reports them, of 2 MiB and more. */
  #takeReport(): boolean {
    const chain = this.#chain;
    for (let i = chain.firstWritable; i < chain.count; i++) {
      const [host, end] = [chain.host[i]!, chain.host[i]! + chain.length[i]!];
      const first = Math.ceil(host / BALLOON_PAGE_BYTES) * BALLOON_PAGE_BYTES;
      const bytes = Math.floor(end / BALLOON_PAGE_BYTES) * BALLOON_PAGE_BYTES - first;
      if (bytes <= 0) continue;
      this.#effects.release(first, bytes);
      this.#count(BALLOON_COUNTER.reportedBytes, bytes);
    }
    return chain.firstWritable === 0;
  }

  #takeStats(): void {
    const context = this.#context;
    const queue = context?.queues[this.#statsQueue];
    if (!context || !queue) return;
    const chain = this.#chain;
    for (let left = CHAINS_AT_ONCE; left > 0; left--) {
      const next = queue.next(chain);
      if (next === NEXT.none) return;
      if (next === NEXT.broken) return context.fail('its statistics queue makes no sense');
      // One is held; a driver that has more of them gets the older back.
      if (this.#heldStats >= 0) {
        queue.pushUsed(this.#heldStats, 0);
        context.interrupt(this.#statsQueue);
      }
      this.#heldStats = chain.id;
      this.#readStats(context);
      context.count(this.#statsQueue, chain.readableBytes, 0);
    }
  }

  #readStats(context: DeviceContext): void {
    const bytes = this.#chain.copyOut(context.ram, 0, this.#pages, 0, MAX_STATS_BYTES);
    for (let at = 0; at + BALLOON_STAT.size <= bytes; at += BALLOON_STAT.size) {
      const tag = this.#pagesView.getUint16(at + BALLOON_STAT.tag, true);
      if (tag >= BALLOON_STAT_NAMES.length) continue;
      const low = this.#pagesView.getUint32(at + BALLOON_STAT.value, true);
      const high = this.#pagesView.getUint32(at + BALLOON_STAT.value + 4, true);
      this.#state.stats[tag] = low + high * TWO_POW_32;
    }
    Atomics.add(this.#state.words, BALLOON_WORD.statsCount, 1);
  }

  #pollLater(): void {
    this.#cancelPoll = this.#effects.after(this.#statsSeconds * 1000, () => {
      this.#pollLater();
      const queue = this.#context?.queues[this.#statsQueue];
      if (!queue || this.#heldStats < 0) return;
      queue.pushUsed(this.#heldStats, 0);
      this.#heldStats = -1;
      this.#context!.interrupt(this.#statsQueue);
    });
  }

  #count(counter: number, bytes: number): void {
    this.#state.stats[counter] = this.#state.stats[counter]! + bytes;
  }
}
