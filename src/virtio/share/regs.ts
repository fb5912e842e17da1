/**
 * The file system device, whose requests are FUSE's. (Virtual I/O Device 1.2 §5.11, Linux uapi/linux/fuse.h)
 */

/** Configuration space. The tag is UTF-8, padded with zeroes. (§5.11.4) */
export const FS_CONFIG = { tag: 0x00, requestQueues: 0x24, size: 0x28 } as const;
export const FS_TAG_BYTES = FS_CONFIG.requestQueues;

/** Queues without VIRTIO_FS_F_NOTIFICATION, whose queue would come second. (§5.11.2) */
export const FS_QUEUE = { highPriority: 0, firstRequest: 1 } as const;

/** `struct fuse_in_header` and `struct fuse_out_header`, which start a request and a reply. */
export const FUSE_IN_HEADER = { bytes: 0x00, opcode: 0x04, unique: 0x08, size: 0x28 } as const;
export const FUSE_OUT_HEADER = { bytes: 0x00, error: 0x04, unique: 0x08, size: 0x10 } as const;

/** Error that Linux's FUSE returns when its server is gone; negative in a reply. */
export const ENOTCONN = 107;
