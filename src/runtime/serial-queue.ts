/** Runs actions one at a time, in the order in which they were queued. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `action` after everything queued before it; rejects with what it throws, which stops no later action. */
  run<T>(action: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(action);
    this.#last = done.catch(() => undefined);
    return done;
  }
}
