/** What a fuzzer runs: one part of Volt that takes bytes from outside. */
import type { Random } from '../../test/unit/support/random.ts';

export interface FuzzTarget {
  readonly name: string;
  /** For people: what is fed with what. */
  readonly what: string;
  /** Inputs to begin with; the more kinds of them the better. */
  readonly seeds: () => readonly Uint8Array[];
  /** Words that inputs of this kind are made of. */
  readonly words?: readonly string[];
  /** Changes an input as this kind of input asks for; by default bytes are changed. */
  readonly vary?: (random: Random, input: Uint8Array) => Uint8Array;
  /**
   * Runs one input to its end. Throws when something is wrong. Returns which kind of way the input took: one that takes a
   * new way is kept and changed further.
   */
  readonly run: (input: Uint8Array) => string | Promise<string>;
  /** Paths of the source that inputs are to reach all of; by default Volt's. `none`: it runs elsewhere, and slowly. */
  readonly source?: RegExp | 'none';
  /** An input that takes longer hangs. Default: DEFAULT_HANG_MS. */
  readonly hangMs?: number;
}

/** Far above what any input takes on a busy machine. */
export const DEFAULT_HANG_MS = 20_000;

/** Inputs are no longer than this. */
export const MAX_INPUT_BYTES = 64 * 1024;

/** A message without what differs from input to input: how it begins, and what it expects. */
export function kindOf(message: string): string {
  const scrub = (text: string) => text.replace(/"[^"]*"?/g, '""').replace(/0x[0-9a-f]+|\d+/g, '#');
  const expected = message.lastIndexOf('(expected');
  if (expected < 0) return scrub(message).slice(0, 80);
  return `${message.split(' ', 3).join(' ').slice(0, 40)} ${scrub(message.slice(expected)).slice(0, 80)}`;
}

/** An input as a run of choices: its words first, and behind its end random ones that depend on it. */
export function choicesOf(input: Uint8Array): (limit: number) => number {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let at = 0;
  let state = (Bun.hash.xxHash32(input) | 1) >>> 0;
  return (limit) => {
    if (at + 4 <= input.length) {
      at += 4;
      return view.getUint32(at - 4, true) % limit;
    }
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** `count` inputs of random choices. */
export function randomChoices(random: Random, count: number, words: number): Uint8Array[] {
  return Array.from({ length: count }, () => random.bytes(4 * words));
}

/** Throws RangeError for a name that is none. */
export function targetNamed(name: string, among: readonly FuzzTarget[]): FuzzTarget {
  const target = among.find((each) => each.name === name);
  if (target) return target;
  throw new RangeError(
    `Cannot fuzz ${name}: no such target (expected ${among.map((each) => each.name).join(', ')})`,
  );
}
