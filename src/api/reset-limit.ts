/**
 * Ends a guest that keeps resetting itself. A guest whose kernel panics, or that finds no root file system,
 * resets itself without end, fast or slowly. A guest that comes up may reset itself as often as it likes.
 */

/** A guest counts as up after this time, the same as for Kubernetes' restart back-off. */
const UP_AFTER_MS = 10 * 60_000;
/** Limit of consecutive shorter runs, the first one included. */
const SHORT_RUNS = 5;

export class ResetLimit {
  #shortRuns = 0;
  #totalMs = 0;

  /**
   * Call this at each reset. `runMs`: time since the guest's start or its last reset. `used`: whether a user
   * typed on its console and so sees the resets. Returns the reason to end the guest, or undefined.
   */
  noteReset(runMs: number, used: boolean): string | undefined {
    if (used || runMs >= UP_AFTER_MS) {
      this.#shortRuns = 0;
      this.#totalMs = 0;
      return undefined;
    }
    this.#shortRuns++;
    this.#totalMs += runMs;
    if (this.#shortRuns < SHORT_RUNS) return undefined;
    const seconds = Math.ceil(this.#totalMs / 1000);
    return `the guest has reset itself ${SHORT_RUNS} times within ${seconds} s; ending it because it never stayed up for ${UP_AFTER_MS / 60_000} minutes; use --reboot always to let it continue, or --no-reboot to end it at the first reset`;
  }
}
