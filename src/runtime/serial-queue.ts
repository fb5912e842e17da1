/** Things done one at a time, in the order they were asked for, whoever asks. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does `act` when everything before it is done; rejects with what it throws, which stops nobody after it. */
  take<T>(act: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(act);
    this.#last = done.catch(() => undefined);
    return done;
  }
}
