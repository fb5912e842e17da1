/**
 * Virtqueues in guest memory, split (Virtual I/O Device 1.2 §2.7) and packed (§2.8). Byte offsets, size last.
 */

/** `struct virtq_desc`; the table is 16-byte aligned. (§2.7.5) */
export const DESCRIPTOR = { address: 0, length: 8, flags: 12, next: 14, size: 16 } as const;
export const DESCRIPTOR_FLAG = { nextBit: 1, writeBit: 2, indirectBit: 4 } as const;

/** `struct virtq_avail`; `used_event` follows the ring. (§2.7.6) */
export const AVAIL = { flags: 0, index: 2, ring: 4, entry: 2, alignment: 2 } as const;
/** `struct virtq_used`; `avail_event` follows the ring. (§2.7.8) */
export const USED = { flags: 0, index: 2, ring: 4, entry: 8, alignment: 4 } as const;
export const AVAIL_NO_INTERRUPT = 1;
export const USED_NO_NOTIFY = 1;

/** `struct pvirtq_desc` (§2.8.13) */
export const PACKED_DESCRIPTOR = { address: 0, length: 8, id: 12, flags: 14, size: 16 } as const;
export const PACKED_FLAG = { availBit: 1 << 7, usedBit: 1 << 15 } as const;
/**
 * `struct pvirtq_event_suppress`: descriptor offset and wrap counter in one u16, flags in the other.
 * (§2.8.14)
 */
export const EVENT_SUPPRESS = { descriptor: 0, flags: 2, size: 4, wrapBit: 1 << 15 } as const;
export const EVENT_FLAG = { enable: 0, disable: 1, descriptor: 2 } as const;

/** Largest virtqueue, in entries. (§2.7, §2.8) */
export const MAX_QUEUE_SIZE = 32768;
