/**
 * Guest physical addresses: numbers below 2^52, the architectural maximum of MAXPHYADDR (Intel SDM 3A
 * §4.1.4), with a brand, so that no host pointer or length can be passed as an address. JavaScript's bit
 * operators truncate to 32 bits, so everything here uses `%` and `/`.
 */
declare const guestAddressBrand: unique symbol;
export type GuestAddress = number & { readonly [guestAddressBrand]: true };

export const PAGE_BYTES = 4096;
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

const ADDRESS_LIMIT = 2 ** 52;

/** Brands `value`. Throws RangeError unless it is an integer from 0 to 2^52 - 1. */
export function guestAddress(value: number): GuestAddress {
  if (!Number.isInteger(value) || value < 0 || value >= ADDRESS_LIMIT) {
    throw new RangeError(`Cannot use ${value} as a guest physical address (expected an integer below 2^52)`);
  }
  return value as GuestAddress;
}

/** `address + bytes`. Throws RangeError like `guestAddress`. */
export function offsetAddress(address: GuestAddress, bytes: number): GuestAddress {
  return guestAddress(address + bytes);
}

/** The largest multiple of `alignment` up to `value`; both are not negative. */
export function alignDown(value: number, alignment: number): number {
  return value - (value % alignment);
}

/** The smallest multiple of `alignment` from `value` on; both are not negative. */
export function alignUp(value: number, alignment: number): number {
  return alignDown(value + alignment - 1, alignment);
}
