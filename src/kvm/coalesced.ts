/**
 * Writes that KVM keeps in a ring instead of leaving the guest for each. The ring is a page of every vCPU's mapping,
 * one for the VM. (Linux include/uapi/linux/kvm.h, struct kvm_coalesced_mmio_ring; KVM api.rst §4.116, 8.10)
 */
import { putU64, viewOf } from '../binary/bytes.ts';
import { libc } from '../ffi/libc.ts';
import { COALESCED_RING, COALESCED_ZONE, IOCTL } from './abi.ts';

export interface CoalescedRing {
  /** SAFETY: views of the page, mapped as long as the VM's vCPUs are; KVM writes it under a lock of its own. */
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
}

export const PAGE_BYTES = 4096;
export const COALESCED_ENTRIES = Math.floor(
  (PAGE_BYTES - COALESCED_RING.entries) / COALESCED_RING.entryBytes,
);

export function viewCoalescedRing(page: ArrayBuffer, offset: number): CoalescedRing {
  return {
    words: new Uint32Array(page, offset, PAGE_BYTES / 4),
    bytes: new Uint8Array(page, offset, PAGE_BYTES),
  };
}

/** A zone of one port, for `startCoalescing` and `stopCoalescing`. */
export function portZone(port: number): Uint8Array {
  const zone = new Uint8Array(COALESCED_ZONE.size);
  const view = viewOf(zone);
  putU64(view, COALESCED_ZONE.address, port);
  view.setUint32(COALESCED_ZONE.bytes, 1, true);
  view.setUint32(COALESCED_ZONE.pio, 1, true);
  return zone;
}

/** KVM_REGISTER_COALESCED_MMIO; false when KVM would not. */
export function startCoalescing(vmFd: number, zone: Uint8Array): boolean {
  return libc.ioctl(vmFd, IOCTL.registerCoalesced, zone) >= 0;
}

/** KVM_UNREGISTER_COALESCED_MMIO: from its return on writes leave the guest again. What is in the ring stays there. */
export function stopCoalescing(vmFd: number, zone: Uint8Array): void {
  libc.ioctl(vmFd, IOCTL.unregisterCoalesced, zone);
}

/** Byte offset of the oldest entry, or 0 when there is none. */
export function oldestEntry({ words }: CoalescedRing): number {
  const first = words[COALESCED_RING.first / 4]!;
  if (first === Atomics.load(words, COALESCED_RING.last / 4)) return 0;
  return COALESCED_RING.entries + (first % COALESCED_ENTRIES) * COALESCED_RING.entryBytes;
}

/** Gives the oldest entry's place back to KVM. One thread at a time. */
export function dropOldestEntry({ words }: CoalescedRing): void {
  const next = (words[COALESCED_RING.first / 4]! + 1) % COALESCED_ENTRIES;
  Atomics.store(words, COALESCED_RING.first / 4, next);
}
