/** Bits needed to number `count` things from 0: 1 → 0, 2 → 1, 3 → 2, 4 → 2, 5 → 3. */
export function bitsFor(count: number): number {
  let bits = 0;
  while (2 ** bits < count) bits++;
  return bits;
}

/** `value` with the bits `high`..`low` replaced by `field`; all as unsigned 32-bit numbers. */
export function withBits(value: number, high: number, low: number, field: number): number {
  const width = high - low + 1;
  const mask = width === 32 ? 0xffff_ffff : 2 ** width - 1;
  return ((value & ~(mask << low)) | ((field & mask) << low)) >>> 0;
}

/** The bits `high`..`low` of `value`, shifted down. */
export function bitsOf(value: number, high: number, low: number): number {
  const width = high - low + 1;
  return width === 32 ? value >>> 0 : (value >>> low) & (2 ** width - 1);
}
