/**
 * Coalesced port writes: KVM queues them in a ring instead of exiting to user space for each. A VM has one
 * ring, a page that every vCPU's kvm_run mapping includes. KVM appends at `last` under its own lock; Volt
 * consumes at `first`, one reader at a time. (api.rst, KVM_(UN)REGISTER_COALESCED_MMIO;
 * include/uapi/linux/kvm.h, struct kvm_coalesced_mmio_ring)
 */
import { putU64, viewOf } from '../binary/bytes.ts';
import { libc } from '../ffi/libc.ts';
import { PAGE_BYTES } from '../machine/address.ts';
import { VoltError } from '../volt-error.ts';
import { COALESCED_RING, COALESCED_ZONE, IOCTL } from './abi.ts';

/** SAFETY: a view of the ring's page, which stays mapped as long as any vCPU of the VM does. */
export type CoalescedRing = Int32Array;

/** Entries that fit into the ring's page; one stays empty. */
export const COALESCED_ENTRIES = Math.floor(
  (PAGE_BYTES - COALESCED_RING.entries) / COALESCED_RING.entryBytes,
);

const FIRST = COALESCED_RING.first / 4;
const LAST = COALESCED_RING.last / 4;

/** The ring at `offset` bytes into a vCPU's kvm_run mapping; undefined for offset 0, which means no ring. */
export function viewCoalescedRing(runPage: ArrayBuffer, offset: number): CoalescedRing | undefined {
  return offset === 0 ? undefined : new Int32Array(runPage, offset, PAGE_BYTES / 4);
}

/** Allocates nothing. */
export function isCoalescedEmpty(ring: CoalescedRing): boolean {
  return ring[FIRST] === Atomics.load(ring, LAST);
}

/**
 * Removes the oldest one-byte write and returns it as `port << 8 | byte`, or -1 when the ring is empty.
 * Throws VoltError 'internal' when an index of the ring is out of bounds.
 */
export function takeCoalescedWrite(ring: CoalescedRing): number {
  const first = ring[FIRST]! >>> 0;
  const last = Atomics.load(ring, LAST) >>> 0;
  if (first === last) return -1;
  if (first >= COALESCED_ENTRIES || last >= COALESCED_ENTRIES) {
    throw new VoltError(
      'internal',
      `Cannot read KVM's coalesced ring: first ${first}, last ${last} (expected less than ${COALESCED_ENTRIES})`,
    );
  }
  const entry = (COALESCED_RING.entries + first * COALESCED_RING.entryBytes) / 4;
  const port = ring[entry + COALESCED_RING.entryAddress / 4]! & 0xffff;
  const byte = ring[entry + COALESCED_RING.entryData / 4]! & 0xff;
  // From here on KVM may overwrite the entry.
  Atomics.store(ring, FIRST, first + 1 === COALESCED_ENTRIES ? 0 : first + 1);
  return (port << 8) | byte;
}

/** A `struct kvm_coalesced_mmio_zone` of one I/O port. */
export function portZone(port: number): Uint8Array {
  const zone = new Uint8Array(COALESCED_ZONE.size);
  const view = viewOf(zone);
  putU64(view, COALESCED_ZONE.address, port);
  view.setUint32(COALESCED_ZONE.bytes, 1, true);
  view.setUint32(COALESCED_ZONE.pio, 1, true);
  return zone;
}

/** KVM_REGISTER_COALESCED_MMIO. Returns false when KVM refuses the zone. */
export function registerCoalescedZone(vmFd: number, zone: Uint8Array): boolean {
  // SAFETY: KVM copies the zone during the call; the same holds below.
  return libc.ioctl(vmFd, IOCTL.registerCoalesced, zone) >= 0;
}

/**
 * KVM_UNREGISTER_COALESCED_MMIO: later writes exit to user space again. Entries already in the ring stay
 * there.
 */
export function unregisterCoalescedZone(vmFd: number, zone: Uint8Array): void {
  libc.ioctl(vmFd, IOCTL.unregisterCoalesced, zone);
}
