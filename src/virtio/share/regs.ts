/** The file system device. (Virtual I/O Device 1.2 §5.11) Its requests are those of FUSE. (Linux uapi/linux/fuse.h) */

/** Configuration space. (§5.11.4) The tag is UTF-8, filled up with zeroes. */
export const FS_CONFIG = { tag: 0x00, requestQueues: 0x24, size: 0x28 } as const;
export const FS_TAG_BYTES = FS_CONFIG.requestQueues;

/** (§5.11.2) Without FS_F_NOTIFICATION the queue for notifications is not there. */
export const FS_QUEUE = { highPriority: 0, firstRequest: 1 } as const;

/** `struct fuse_in_header` and `struct fuse_out_header`, which requests and answers begin with. */
export const FUSE_IN_HEADER = { bytes: 0x00, opcode: 0x04, unique: 0x08, size: 0x28 } as const;
export const FUSE_OUT_HEADER = { bytes: 0x00, error: 0x04, unique: 0x08, size: 0x10 } as const;

/** What FUSE itself says when its server is gone; as a negative number in an answer. */
export const ENOTCONN = 107;
