/** Runs actions one at a time, in the order of the calls of `run`. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs `action` after all earlier ones have ended. Rejects with its error, which does not affect later
   * actions.
   */
  run<T>(action: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(action);
    this.#last = done.catch(() => undefined);
    return done;
  }
}
