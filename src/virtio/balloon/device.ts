/** The memory balloon: releases pages that the guest gives up to the host. (Virtual I/O Device 1.2 §5.5) */
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
import type { DeviceChange } from '../transport/device-change.ts';
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';

const QUEUE_SIZE = 128;
/**
 * Page numbers read from one request; Linux sends at most 256. Pages beyond are not released, which is
 * allowed.
 */
const MAX_PAGES = 4096;
/** Bytes read from one statistics buffer: 64 entries, and §5.5.6.4 defines ten tags. */
const MAX_STATS_BYTES = 64 * BALLOON_STAT.size;
const CHAINS_AT_ONCE = 64;

export interface BalloonOptions {
  readonly pages: number;
  /** Offers VIRTIO_BALLOON_F_DEFLATE_ON_OOM: the guest deflates the balloon when it runs out of memory. */
  readonly deflateOnOom: boolean;
  /** Polling interval; 0: no statistics. */
  readonly statsSeconds: number;
}

export interface BalloonEffects {
  /** Releases host memory; it then reads as zeroes, or as its file's content. */
  release(host: number, bytes: number): void;
  after(delayMs: number, handler: () => void): () => void;
}

/** Features, queues and configuration space. (§5.5.2 to §5.5.4) */
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
  #statsSeconds: number;
  readonly #chain = new Chain();
  readonly #pages = new Uint8Array(4 * MAX_PAGES);
  readonly #pagesView = new DataView(this.#pages.buffer);
  #context: DeviceContext | undefined;
  #statsQueue = -1;
  #reportingQueue = -1;
  /** Id of the statistics chain held until the next poll; -1: none. (§5.5.6.3) */
  #heldStats = -1;
  #cancelPoll: (() => void) | undefined;
  /** By queue: cancels the timer that continues with its remaining chains. */
  readonly #continuations = new Map<number, () => void>();

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
    this.updateTarget();
    if (stats) this.#schedulePoll();
  }

  reset(): void {
    this.#context = undefined;
    this.#heldStats = -1;
    this.#cancelPoll?.();
    for (const cancel of this.#continuations.values()) cancel();
    this.#continuations.clear();
    Atomics.store(this.#state.words, BALLOON_WORD.actualPages, 0);
  }

  change(change: DeviceChange): void {
    if (change.kind !== 'balloon-polling') throw new Error('a balloon has a polling interval only');
    this.#statsSeconds = change.seconds;
    if (!this.#cancelPoll || this.#statsQueue < 0) return;
    this.#cancelPoll();
    this.#schedulePoll();
  }

  /** Writes the current target size to the configuration space. (num_pages, §5.5.4) */
  updateTarget(): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, Atomics.load(this.#state.words, BALLOON_WORD.wantedPages), true);
    this.#context?.setConfig(BALLOON_CONFIG.pageCount, bytes);
  }

  /** The driver updated the balloon's size. (actual, §5.5.4) */
  configWritten(): void {
    const context = this.#context;
    if (!context) return;
    let pages = 0;
    for (let i = 3; i >= 0; i--) pages = (pages << 8) | context.config(BALLOON_CONFIG.actual + i);
    Atomics.store(this.#state.words, BALLOON_WORD.actualPages, pages);
  }

  processQueue(queue: number): void {
    if (queue === this.#statsQueue) this.#processStats();
    else if (queue === Q.inflate) this.#processChains(queue, () => this.#releaseInflated());
    else if (queue === Q.deflate) this.#processChains(queue, () => true);
    else if (queue === this.#reportingQueue) this.#processChains(queue, () => this.#releaseReported());
  }

  /** Returns every chain of a queue after `act` on #chain, which returns false for an invalid one. */
  #processChains(index: number, act: () => boolean): void {
    const context = this.#context;
    const queue = context?.queues[index];
    if (!context || !queue || this.#continuations.has(index)) return;
    let left = CHAINS_AT_ONCE;
    do {
      queue.disableNotifications();
      for (;;) {
        if (left-- === 0) {
          context.interrupt(index);
          this.#continuations.set(
            index,
            this.#effects.after(0, () => {
              this.#continuations.delete(index);
              this.#processChains(index, act);
            }),
          );
          return;
        }
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken)
          return context.fail(`queue ${index} has an invalid ring or descriptor chain`);
        if (!act()) return context.fail(`queue ${index} has pages that are not RAM`);
        queue.pushUsed(this.#chain.id, 0);
        context.count(index, this.#chain.readableBytes, 0);
      }
      context.interrupt(index);
    } while (queue.enableNotifications());
  }

  /** Releases the pages of an inflate request; runs of adjacent ones, which Linux often sends, at once. */
  #releaseInflated(): boolean {
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
    const { ram } = this.#context!;
    const host = ram.hostAddress(start * BALLOON_PAGE_BYTES, bytes);
    // A run may span two regions of RAM.
    if (host === 0)
      return pages > 1 && this.#releasePages(start, 1) && this.#releasePages(start + 1, pages - 1);
    this.#effects.release(host, bytes);
    ram.markHostWritten(host, bytes);
    this.#count(BALLOON_COUNTER.inflatedBytes, bytes);
    return true;
  }

  /**
   * Releases reported free pages, which stay the guest's. Linux reports 2 MiB and more at a time. (§5.5.6.7)
   */
  #releaseReported(): boolean {
    const chain = this.#chain;
    for (let i = chain.firstWritable; i < chain.count; i++) {
      const [host, end] = [chain.host[i]!, chain.host[i]! + chain.length[i]!];
      const first = Math.ceil(host / BALLOON_PAGE_BYTES) * BALLOON_PAGE_BYTES;
      const bytes = Math.floor(end / BALLOON_PAGE_BYTES) * BALLOON_PAGE_BYTES - first;
      if (bytes <= 0) continue;
      this.#effects.release(first, bytes);
      this.#context!.ram.markHostWritten(first, bytes);
      this.#count(BALLOON_COUNTER.reportedBytes, bytes);
    }
    return chain.firstWritable === 0;
  }

  #processStats(): void {
    const context = this.#context;
    const queue = context?.queues[this.#statsQueue];
    if (!context || !queue) return;
    const chain = this.#chain;
    for (let left = CHAINS_AT_ONCE; left > 0; left--) {
      const next = queue.next(chain);
      if (next === NEXT.none) return;
      if (next === NEXT.broken)
        return context.fail('its statistics queue has an invalid ring or descriptor chain');
      // Only one buffer is held; an older one is returned.
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

  #schedulePoll(): void {
    this.#cancelPoll = this.#effects.after(this.#statsSeconds * 1000, () => {
      this.#schedulePoll();
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
