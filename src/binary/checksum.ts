/**
 * The checksum byte of MPS, ACPI and BIOS structures: with it in place, all bytes add up to 0 modulo 256.
 * (MPS 1.4 §4.1, ACPI 6.5 §5.2.6)
 */
export function checksumByte(bytes: Uint8Array): number {
  return -byteSum(bytes) & 0xff;
}

/** Sum of all bytes modulo 256; 0 for a structure whose checksum is right. */
export function byteSum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
}
