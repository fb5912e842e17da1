/** The persistent memory device. (Virtual I/O Device 1.2 §5.19) */

/** Configuration space: guest physical address and size of the memory. (§5.19.4) */
export const PMEM_CONFIG = { start: 0x00, bytes: 0x08, size: 0x10 } as const;

/** A request is a u32 type, its response a u32 result. (§5.19.6) */
export const PMEM_REQUEST = { flush: 0 } as const;
export const PMEM_REQUEST_BYTES = 4;
export const PMEM_RESULT = { ok: 0, failed: 0xffff_ffff } as const;
export const PMEM_RESULT_BYTES = 4;
