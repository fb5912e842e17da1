/** Controls a running balloon from the main thread. */
import { BALLOON_COUNTER, BALLOON_WORD, type BalloonState } from './state.ts';
import { BALLOON_CONFIG, BALLOON_PAGE_BYTES, BALLOON_STAT_NAMES } from './regs.ts';
import { signalEventFd } from '../../ffi/epoll.ts';
import { viewOf } from '../../binary/bytes.ts';
import { MIB } from '../../machine/address.ts';
import type { DeviceState } from '../transport/device-state.ts';
import type { BalloonStatus } from './status.ts';

export const PAGES_PER_MIB = MIB / BALLOON_PAGE_BYTES;

export class BalloonControl {
  readonly #state: BalloonState;
  readonly #wakeFd: number;

  constructor(state: BalloonState, wakeFd: number) {
    this.#state = state;
    this.#wakeFd = wakeFd;
  }

  /** Sets the balloon's target size; the guest reaches it as far and as fast as it can. */
  resize(mib: number): void {
    Atomics.store(this.#state.words, BALLOON_WORD.wantedPages, mib * PAGES_PER_MIB);
    signalEventFd(this.#wakeFd);
  }

  /** Takes the target and the actual size of a saved balloon from its configuration space. */
  restore({ config }: Pick<DeviceState, 'config'>): void {
    const view = viewOf(config);
    const { words } = this.#state;
    Atomics.store(words, BALLOON_WORD.wantedPages, view.getUint32(BALLOON_CONFIG.pageCount, true));
    Atomics.store(words, BALLOON_WORD.actualPages, view.getUint32(BALLOON_CONFIG.actual, true));
  }

  status(): BalloonStatus {
    const { words, stats } = this.#state;
    const all = BALLOON_STAT_NAMES.map((name, tag) => [name, stats[tag]!] as const);
    return {
      wantedMib: (Atomics.load(words, BALLOON_WORD.wantedPages) >>> 0) / PAGES_PER_MIB,
      actualMib: (Atomics.load(words, BALLOON_WORD.actualPages) >>> 0) / PAGES_PER_MIB,
      inflatedBytes: stats[BALLOON_COUNTER.inflatedBytes]!,
      reportedBytes: stats[BALLOON_COUNTER.reportedBytes]!,
      stats: Object.fromEntries(all.filter(([, value]) => !Number.isNaN(value))),
    };
  }
}
