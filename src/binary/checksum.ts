/**
 * The value of the checksum byte of MPS and ACPI structures, which makes the sum of all bytes 0 modulo 256.
 * The byte itself must be 0 in `bytes`. (MPS 1.4 §4.1, ACPI 6.5 §5.2.6)
 */
export function checksumByte(bytes: Uint8Array): number {
  return -byteSum(bytes) & 0xff;
}

/** Sum of all bytes modulo 256; 0 for a structure with a valid checksum. */
export function byteSum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
}
