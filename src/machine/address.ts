/**
 * Guest physical addresses. They are plain numbers below 2^52 (the architectural limit of MAXPHYADDR) with a
 * brand, so that a host pointer or a length cannot be passed where an address is meant. JavaScript's bit
 * operators truncate to 32 bits: everything here uses `%` and `/`.
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

/** `address + bytes`, checked like `guestAddress`. */
export function offsetAddress(address: GuestAddress, bytes: number): GuestAddress {
  return guestAddress(address + bytes);
}

export function alignDown(value: number, alignment: number): number {
  return value - (value % alignment);
}

export function alignUp(value: number, alignment: number): number {
  return alignDown(value + alignment - 1, alignment);
}
