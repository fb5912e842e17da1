/**
 * The metadata that the main thread shares with a device worker: JSON text in shared memory. The writer makes `sequence`
 * odd while it writes; a reader that sees it odd or changed reads again.
 */
import { JsonReader } from '../../../json/reader.ts';
import { readValue, type JsonValue } from '../../../json/value.ts';

const WORD = { sequence: 0, length: 1, size: 2 } as const;
const TEXT_OFFSET = 4 * WORD.size;

export function createMmdsBuffer(limitBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(TEXT_OFFSET + limitBytes);
}

/** Throws RangeError if the text is longer than the limit. */
export function writeMmds(buffer: SharedArrayBuffer, text: string): void {
  const words = new Int32Array(buffer, 0, WORD.size);
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > buffer.byteLength - TEXT_OFFSET) throw new RangeError('the metadata is too long');
  Atomics.add(words, WORD.sequence, 1);
  new Uint8Array(buffer, TEXT_OFFSET).set(bytes);
  Atomics.store(words, WORD.length, bytes.length);
  Atomics.add(words, WORD.sequence, 1);
}

/** Reads the metadata, and parses them when they have changed. */
export class MmdsReader {
  readonly #buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  #parsedAt = -1;
  #value: JsonValue = null;

  constructor(buffer: SharedArrayBuffer) {
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer, 0, WORD.size);
  }

  value(): JsonValue {
    for (;;) {
      const before = Atomics.load(this.#words, WORD.sequence);
      if (before === this.#parsedAt) return this.#value;
      if (before % 2 !== 0) continue;
      const length = Atomics.load(this.#words, WORD.length);
      const bytes = new Uint8Array(this.#buffer, TEXT_OFFSET, length).slice();
      if (Atomics.load(this.#words, WORD.sequence) !== before) continue;
      this.#value = length === 0 ? null : readValue(new JsonReader(bytes));
      this.#parsedAt = before;
    }
  }
}
