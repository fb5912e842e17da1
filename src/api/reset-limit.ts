/**
 * When to give up a guest that resets itself again and again. One whose kernel panics, or that finds no root
 * file system, would do so for ever, whatever the time it takes; one that is up may reset itself as often as
 * it likes.
 */

/** A guest counts as up when it has run for so long, as a container does for Kubernetes' restart back-off. */
const UP_AFTER_MS = 10 * 60_000;
/** Runs in a row that may end before that, the first one included. */
const SHORT_RUNS = 5;

export class ResetLimit {
  #shortRuns = 0;
  #totalMs = 0;

  /**
   * To be called at each reset. `runMs`: how long the guest has run since its start or its last reset;
   * `used`: whether somebody typed at its console, who sees the resets for himself. Returns why the guest is
   * to be ended, or undefined.
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
    return `the guest has reset itself ${SHORT_RUNS} times within ${seconds} s; ending it because it never stayed up for ${UP_AFTER_MS / 60_000} minutes (--reboot always lets it go on, --no-reboot ends it at its first reset)`;
  }
}
