/** A balloon's state shared by its worker and the main thread: target size, actual size, statistics. */
import { BALLOON_STAT_NAMES } from './regs.ts';

export const BALLOON_WORD = {
  /** Target size in pages, num_pages in the configuration space. */
  wantedPages: 0,
  /** Actual size in pages, as the driver reports it. */
  actualPages: 1,
  /** Number of statistics buffers received. */
  statsCount: 2,
  size: 4,
} as const;

export interface BalloonState {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  /** Values by tag, NaN where the guest reports none; then the counters of BALLOON_COUNTER. */
  readonly stats: Float64Array;
}

/** Bytes released since the start: by free page reporting, and by inflation. Behind the statistics. */
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

/** Views the state from another thread. */
export function viewBalloonState(buffer: SharedArrayBuffer): BalloonState {
  return {
    buffer,
    words: new Int32Array(buffer, 0, BALLOON_WORD.size),
    stats: new Float64Array(buffer, 4 * BALLOON_WORD.size, BALLOON_COUNTER.size),
  };
}
