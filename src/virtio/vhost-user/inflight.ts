/**
 * The inflight region, in which a back-end notes the descriptor chains that it has taken and not used, so that another
 * one can continue with them. (QEMU docs/interop/vhost-user.rst, "Inflight I/O tracking")
 */
import { viewOf } from '../../binary/bytes.ts';
import { INFLIGHT_ENTRY, INFLIGHT_QUEUE } from './regs.ts';

/** Bytes of one queue's part. */
export function inflightQueueBytes(queueSize: number): number {
  const bytes = INFLIGHT_QUEUE.entries + queueSize * INFLIGHT_ENTRY.size;
  return Math.ceil(bytes / INFLIGHT_QUEUE.alignment) * INFLIGHT_QUEUE.alignment;
}

/** Heads in flight, from the part of one queue; `usedIndex` is that of its used ring. Untrusted: any bytes will do. */
export function headsInFlight(part: Uint8Array, queueSize: number, usedIndex: number): number[] {
  const view = viewOf(part);
  const heads: number[] = [];
  // The last head was used, but not noted as such, if the used index has gone on.
  const isStale = view.getUint16(INFLIGHT_QUEUE.usedIndex, true) !== usedIndex;
  const last = view.getUint16(INFLIGHT_QUEUE.lastBatchHead, true);
  for (let head = 0; head < queueSize; head++) {
    const at = INFLIGHT_QUEUE.entries + head * INFLIGHT_ENTRY.size;
    if (view.getUint8(at + INFLIGHT_ENTRY.inFlight) === 1 && !(isStale && head === last)) heads.push(head);
  }
  return heads;
}

/** A region without requests in flight, for queues with these used indexes. Back-ends fill in the version. */
export function emptyInflight(queueSize: number, usedIndexes: readonly (number | undefined)[]): Uint8Array {
  const bytes = inflightQueueBytes(queueSize);
  const region = new Uint8Array(bytes * usedIndexes.length);
  usedIndexes.forEach((index, queue) =>
    viewOf(region).setUint16(queue * bytes + INFLIGHT_QUEUE.usedIndex, index ?? 0, true),
  );
  return region;
}
