/** The persistent memory device. (Virtual I/O Device 1.2 §5.19) */

/** Configuration space. (§5.19.4) Where the memory lies, in guest physical addresses. */
export const PMEM_CONFIG = { start: 0x00, bytes: 0x08, size: 0x10 } as const;

/** (§5.19.6) A request is a type, an answer a result; both are u32. */
export const PMEM_REQUEST = { flush: 0 } as const;
export const PMEM_REQUEST_BYTES = 4;
export const PMEM_RESULT = { ok: 0, failed: 0xffff_ffff } as const;
export const PMEM_RESULT_BYTES = 4;
