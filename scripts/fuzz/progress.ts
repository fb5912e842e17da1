/**
 * What a fuzzing process and the one that watches it share: a mapped file with counters and the input under way, so
 * that the input is there even when the process crashed or hangs.
 */
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { MAX_INPUT_BYTES } from './target.ts';

const WORDS = 16;
const HEADER_BYTES = 4 * WORDS;

/** Words of the file. `runs` wraps; `began` is when the input under way began, in ms since the process started. */
const WORD = { runs: 0, kinds: 1, findings: 2, inputBytes: 3, under: 4, covered: 5, beats: 6 } as const;

export class Progress {
  readonly #words: Uint32Array;
  readonly #input: Uint8Array;

  /** Makes the file when it is not there. */
  constructor(path: string) {
    const fd = openSync(path, 'a');
    ftruncateSync(fd, HEADER_BYTES + MAX_INPUT_BYTES);
    closeSync(fd);
    const bytes = Bun.mmap(path, { shared: true });
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, WORDS);
    this.#input = new Uint8Array(bytes.buffer, bytes.byteOffset + HEADER_BYTES, MAX_INPUT_BYTES);
  }

  begin(input: Uint8Array): void {
    this.#words[WORD.beats]!++;
    this.#words[WORD.inputBytes] = input.length;
    this.#input.set(input);
    this.#words[WORD.under] = 1;
  }

  end(): void {
    this.endAgain();
    this.#words[WORD.runs]!++;
  }

  /** The end of an input that had been run before. */
  endAgain(): void {
    this.#words[WORD.under] = 0;
  }

  note(kinds: number, findings: number, covered: number): void {
    this.#words[WORD.kinds] = kinds;
    this.#words[WORD.covered] = covered;
    this.#words[WORD.findings] = findings;
  }

  /** Changes as long as inputs are run, those too that are run again and do not count. */
  get beats(): number {
    return this.#words[WORD.beats]!;
  }

  get runs(): number {
    return this.#words[WORD.runs]!;
  }

  get kinds(): number {
    return this.#words[WORD.kinds]!;
  }

  /** Characters of source that have run. */
  get covered(): number {
    return this.#words[WORD.covered]!;
  }

  get findings(): number {
    return this.#words[WORD.findings]!;
  }

  /** undefined: none is under way. */
  get input(): Uint8Array | undefined {
    if (this.#words[WORD.under] === 0) return undefined;
    return this.#input.slice(0, this.#words[WORD.inputBytes]);
  }
}
