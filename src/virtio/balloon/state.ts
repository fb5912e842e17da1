/** What a balloon's worker shares with whoever steers it: the size that is wanted, and the guest's statistics. */
import { BALLOON_STAT_NAMES } from './regs.ts';

export const BALLOON_WORD = {
  /** Pages that the guest is to give back. */
  wantedPages: 0,
  /** Pages that it has given back. */
  actualPages: 1,
  /** Counts statistics that came. */
  statsCount: 2,
  size: 4,
} as const;

export interface BalloonState {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  /** By tag; NaN: the guest does not tell. Then bytes that were given back for good, by reporting and by balloon. */
  readonly stats: Float64Array;
}

export const BALLOON_COUNTER = {
  reportedBytes: BALLOON_STAT_NAMES.length,
  inflatedBytes: BALLOON_STAT_NAMES.length + 1,
  size: BALLOON_STAT_NAMES.length + 2,
} as const;

export function createBalloonState(wantedPages: number): BalloonState {
  const state = viewBalloonState(new SharedArrayBuffer(4 * BALLOON_WORD.size + 8 * BALLOON_COUNTER.size));
  state.words[BALLOON_WORD.wantedPages] = wantedPages;
  state.stats.fill(NaN, 0, BALLOON_STAT_NAMES.length);
  return state;
}

/** The same seen from another thread. */
export function viewBalloonState(buffer: SharedArrayBuffer): BalloonState {
  return {
    buffer,
    words: new Int32Array(buffer, 0, BALLOON_WORD.size),
    stats: new Float64Array(buffer, 4 * BALLOON_WORD.size, BALLOON_COUNTER.size),
  };
}
