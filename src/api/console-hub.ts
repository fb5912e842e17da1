/**
 * The guest's serial console for clients of the control socket: recent output, any number of readers, one
 * writer. The pump hands output over and never waits for a client.
 */

/** Output kept for clients that come later. */
export const HISTORY_BYTES = 256 * 1024;
/** How long input waits for room in the guest's receive buffer, and how often it is tried. */
const INPUT_MS = 200;
const RETRY_MS = 5;

/** Somebody who may type: a client, or the terminal of this process. */
export interface Writer {
  /** Called when another writer takes over, or when it may type again. */
  changed(mayWrite: boolean): void;
}

export class ConsoleHub {
  readonly #send: (bytes: Uint8Array) => number;
  readonly #history = new Uint8Array(HISTORY_BYTES);
  /** Bytes of output so far. */
  #total = 0;
  readonly #readers = new Set<(bytes: Uint8Array) => void>();
  /** The last one may type; the others may again when it has left. */
  readonly #writers: Writer[] = [];

  /** `send` returns how many bytes the guest had room for. */
  constructor(send: (bytes: Uint8Array) => number) {
    this.#send = send;
  }

  /** Takes output of the guest. `bytes` is only valid during the call. */
  note(bytes: Uint8Array): void {
    const kept = bytes.subarray(-HISTORY_BYTES);
    const at = (this.#total + bytes.length - kept.length) % HISTORY_BYTES;
    const first = kept.subarray(0, HISTORY_BYTES - at);
    this.#history.set(first, at);
    this.#history.set(kept.subarray(first.length), 0);
    this.#total += bytes.length;
    for (const reader of this.#readers) reader(bytes);
  }

  /** A copy of the most recent output. */
  history(): Uint8Array {
    const at = this.#total % HISTORY_BYTES;
    if (this.#total <= HISTORY_BYTES) return this.#history.slice(0, this.#total);
    return Buffer.concat([this.#history.subarray(at), this.#history.subarray(0, at)]);
  }

  /** `reader` must copy what it keeps. Returns a function that unsubscribes. */
  read(reader: (bytes: Uint8Array) => void): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  get readers(): number {
    return this.#readers.size;
  }

  /** Lets `writer` type if nobody does, or with `takeOver` in place of whoever does. Returns whether it may. */
  startWriting(writer: Writer, takeOver: boolean): boolean {
    const current = this.#writers.at(-1);
    if (current === writer) return true;
    if (current && !takeOver) return false;
    this.stopWriting(writer);
    current?.changed(false);
    this.#writers.push(writer);
    return true;
  }

  stopWriting(writer: Writer): void {
    const at = this.#writers.indexOf(writer);
    if (at < 0) return;
    const wasCurrent = at === this.#writers.length - 1;
    this.#writers.splice(at, 1);
    if (wasCurrent) this.#writers.at(-1)?.changed(true);
  }

  mayWrite(writer: Writer): boolean {
    return this.#writers.at(-1) === writer;
  }

  /** Types `bytes`. Resolves to how many the guest has taken within a moment. */
  async type(bytes: Uint8Array): Promise<number> {
    let taken = this.#send(bytes);
    for (let waited = 0; taken < bytes.length && waited < INPUT_MS; waited += RETRY_MS) {
      await Bun.sleep(RETRY_MS);
      taken += this.#send(bytes.subarray(taken));
    }
    return taken;
  }
}
