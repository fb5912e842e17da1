/** A small seeded generator (mulberry32), so that a property test that fails, fails again. */
export interface Random {
  /** An integer from `low` to `high`, both included. */
  int(low: number, high: number): number;
  bytes(length: number): Uint8Array;
  pick<T>(values: readonly [T, ...T[]]): T;
}

export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const int = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    int,
    bytes: (length) => Uint8Array.from({ length }, () => int(0, 255)),
    pick: (values) => values[int(0, values.length - 1)]!,
  };
}

/** Values at which parsers of binary fields break. */
const AWKWARD_WORDS = [
  0, 1, 7, 0x7f, 0x80, 0xff, 0xfff, 0x1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
] as const;

/** A copy of `bytes` with one to four things wrong: bits flipped, words made awkward, the end cut off. */
export function mutate(random: Random, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  for (let changes = random.int(1, 4); changes > 0; changes--) {
    const at = random.int(0, copy.length - 4);
    if (random.int(0, 1) === 0) copy[at] = copy[at]! ^ (1 << random.int(0, 7));
    else view.setUint32(at, random.pick(AWKWARD_WORDS), true);
  }
  return random.int(0, 7) === 0 ? copy.subarray(0, random.int(0, copy.length)) : copy;
}
