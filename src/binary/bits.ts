/** Width of a field that numbers `count` items from 0: ceil(log2(count)). 1 → 0, 2 → 1, 3 → 2, 5 → 3. */
export function bitsFor(count: number): number {
  let bits = 0;
  while (2 ** bits < count) bits++;
  return bits;
}

/** `value` with bits `high`–`low` replaced by `field`. All are unsigned 32-bit numbers. */
export function withBits(value: number, high: number, low: number, field: number): number {
  const width = high - low + 1;
  const mask = width === 32 ? 0xffff_ffff : 2 ** width - 1;
  return ((value & ~(mask << low)) | ((field & mask) << low)) >>> 0;
}

/** Bits `high`–`low` of the 32-bit `value`, shifted down to bit 0. */
export function bitsOf(value: number, high: number, low: number): number {
  const width = high - low + 1;
  return width === 32 ? value >>> 0 : (value >>> low) & (2 ** width - 1);
}
