/**
 * Writes that KVM keeps in a ring instead of leaving the guest for each. The ring is one page for the VM, which is part
 * of every vCPU's mapping; KVM adds at `last` under a lock of its own, one reader at a time takes at `first`.
 * (Linux include/uapi/linux/kvm.h, struct kvm_coalesced_mmio_ring; Documentation/virt/kvm/api.rst §4.116)
 */
import { putU64, viewOf } from '../binary/bytes.ts';
import { libc } from '../ffi/libc.ts';
import { PAGE_BYTES } from '../machine/address.ts';
import { VoltError } from '../volt-error.ts';
import { COALESCED_RING, COALESCED_ZONE, IOCTL } from './abi.ts';

/** SAFETY: a view of the ring's page, mapped as long as the VM's vCPUs are. */
export type CoalescedRing = Int32Array;

export const COALESCED_ENTRIES = Math.floor(
  (PAGE_BYTES - COALESCED_RING.entries) / COALESCED_RING.entryBytes,
);

const FIRST = COALESCED_RING.first / 4;
const LAST = COALESCED_RING.last / 4;

/** `offset` is where in a vCPU's mapping the ring lies; 0 when this KVM has none. */
export function viewCoalescedRing(runPage: ArrayBuffer, offset: number): CoalescedRing | undefined {
  return offset === 0 ? undefined : new Int32Array(runPage, offset, PAGE_BYTES / 4);
}

export function isCoalescedEmpty(ring: CoalescedRing): boolean {
  return ring[FIRST] === Atomics.load(ring, LAST);
}

/**
 * Takes the oldest write of one byte to a port: `port << 8 | byte`, or -1 when there is none. Throws VoltError
 * 'internal' when the ring's indices are out of bounds.
 */
export function takeCoalescedWrite(ring: CoalescedRing): number {
  const first = ring[FIRST]! >>> 0;
  const last = Atomics.load(ring, LAST) >>> 0;
  if (first === last) return -1;
  if (first >= COALESCED_ENTRIES || last >= COALESCED_ENTRIES) {
    throw new VoltError(
      'internal',
      `Cannot read KVM's ring of writes: it goes from ${first} to ${last} (expected less than ${COALESCED_ENTRIES})`,
    );
  }
  const entry = (COALESCED_RING.entries + first * COALESCED_RING.entryBytes) / 4;
  const port = ring[entry + COALESCED_RING.entryAddress / 4]! & 0xffff;
  const byte = ring[entry + COALESCED_RING.entryData / 4]! & 0xff;
  // KVM may write the entry anew from here on.
  Atomics.store(ring, FIRST, first + 1 === COALESCED_ENTRIES ? 0 : first + 1);
  return (port << 8) | byte;
}

/** A zone of one port, for `registerCoalescedZone` and `unregisterCoalescedZone`. */
export function portZone(port: number): Uint8Array {
  const zone = new Uint8Array(COALESCED_ZONE.size);
  const view = viewOf(zone);
  putU64(view, COALESCED_ZONE.address, port);
  view.setUint32(COALESCED_ZONE.bytes, 1, true);
  view.setUint32(COALESCED_ZONE.pio, 1, true);
  return zone;
}

/** KVM_REGISTER_COALESCED_MMIO; false when KVM does not take the zone. */
export function registerCoalescedZone(vmFd: number, zone: Uint8Array): boolean {
  return libc.ioctl(vmFd, IOCTL.registerCoalesced, zone) >= 0;
}

/**
 * KVM_UNREGISTER_COALESCED_MMIO: what is written after its return leaves the guest again. What is in the ring stays
 * there.
 */
export function unregisterCoalescedZone(vmFd: number, zone: Uint8Array): void {
  libc.ioctl(vmFd, IOCTL.unregisterCoalesced, zone);
}
