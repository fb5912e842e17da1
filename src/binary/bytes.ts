/**
 * Little-endian fields over a DataView.
 *
 * Lengths, addresses and counts of 64 bits are numbers below 2^53, stored as two u32 halves, which is three
 * times as fast as `setBigUint64(BigInt(n))`. Registers and descriptors are bigint and use the DataView
 * methods directly.
 */

/** Weight of the upper half of a u64: JavaScript's bit operators cannot shift by 32. */
export const TWO_POW_32 = 2 ** 32;

/** A DataView over the same part of the buffer as `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Stores an integer 0 ≤ value < 2^53 as a little-endian u64. */
export function putU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % TWO_POW_32, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_POW_32), true);
}

/** Reads a little-endian u64. Values of 2^53 and above lose low bits, so callers check bounds. */
export function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * TWO_POW_32 + view.getUint32(offset, true);
}

/** Stores `text`, code points below 256, without a terminator. */
export function putAscii(bytes: Uint8Array, offset: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[offset + i] = text.charCodeAt(i);
}

/** Reads `length` bytes as Latin-1, one character per byte. */
export function getAscii(bytes: Uint8Array, offset: number, length: number): string {
  let text = '';
  for (let i = offset; i < offset + length; i++) text += String.fromCharCode(bytes[i] ?? 0);
  return text;
}

/** Hexadecimal with prefix, padded to `digits` digits: `hex(5, 4)` is `0x0005`. */
export function hex(value: number | bigint, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
