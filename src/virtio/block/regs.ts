/** The block device: features, configuration space, requests. (Virtual I/O Device 1.2 §5.2) */

export const SECTOR_BYTES = 512;

/** Feature bits. (§5.2.3) */
export const BLOCK_FEATURE = {
  sizeMax: 1,
  segMax: 2,
  readOnly: 5,
  blockSize: 6,
  flush: 9,
  topology: 10,
  multiQueue: 12,
  discard: 13,
  writeZeroes: 14,
} as const;

/** `struct virtio_blk_config` (§5.2.4) */
export const BLOCK_CONFIG = {
  capacity: 0,
  sizeMax: 8,
  segMax: 12,
  blockSize: 20,
  physicalBlockExponent: 24,
  alignmentOffset: 25,
  minIoSize: 26,
  optIoSize: 28,
  numQueues: 34,
  maxDiscardSectors: 36,
  maxDiscardSegments: 40,
  discardSectorAlignment: 44,
  maxWriteZeroesSectors: 48,
  maxWriteZeroesSegments: 52,
  writeZeroesMayUnmap: 56,
  size: 60,
} as const;

/** `struct virtio_blk_req` up to its data; the status byte is the last device-writable one. (§5.2.6) */
export const BLOCK_HEADER = { type: 0, sector: 8, size: 16 } as const;

/** VIRTIO_BLK_T_… (§5.2.6) */
export const BLOCK_REQUEST = {
  in: 0,
  out: 1,
  flush: 4,
  getId: 8,
  discard: 11,
  writeZeroes: 13,
} as const;

/** VIRTIO_BLK_S_… (§5.2.6) */
export const BLOCK_STATUS = { ok: 0, ioError: 1, unsupported: 2 } as const;
/** Answer to VIRTIO_BLK_T_GET_ID. (§5.2.6) */
export const BLOCK_ID_BYTES = 20;

/** `struct virtio_blk_discard_write_zeroes` (§5.2.6) */
export const BLOCK_SEGMENT = { sector: 0, sectorCount: 8, flags: 12, size: 16 } as const;
export const BLOCK_SEGMENT_UNMAP = 1;
