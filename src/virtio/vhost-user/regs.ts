/**
 * Messages of the vhost-user protocol: little-endian fields, byte offsets. (QEMU docs/interop/vhost-user.rst)
 */

export const VHOST_REQUEST = {
  getFeatures: 1,
  setFeatures: 2,
  setOwner: 3,
  setMemTable: 5,
  setLogBase: 6,
  setVringNum: 8,
  setVringAddr: 9,
  setVringBase: 10,
  getVringBase: 11,
  setVringKick: 12,
  setVringCall: 13,
  getProtocolFeatures: 15,
  setProtocolFeatures: 16,
  getQueueNum: 17,
  setVringEnable: 18,
  getConfig: 24,
  setInflightFd: 32,
} as const;

export type VhostRequestName = keyof typeof VHOST_REQUEST;

/** ("Header") */
export const VHOST_HEADER = { request: 0x00, flags: 0x04, bytes: 0x08, size: 0x0c } as const;

export const VHOST_FLAG = {
  versionMask: 0x3,
  version: 0x1,
  replyBit: 0x4,
  needReplyBit: 0x8,
} as const;

/** ("A vring state description") */
export const VRING_STATE = { index: 0x00, num: 0x04, size: 0x08 } as const;

/** ("A vring address description") */
export const VRING_ADDRESS = {
  index: 0x00,
  flags: 0x04,
  descriptors: 0x08,
  used: 0x10,
  available: 0x18,
  log: 0x20,
  size: 0x28,
} as const;
/** Flag of a vring address: writes to the used ring are logged. */
export const VRING_LOG = 0x1;

/** ("Virtio device config space") The bytes of the configuration space follow. */
export const DEVICE_CONFIG = { offset: 0x00, bytes: 0x04, flags: 0x08, content: 0x0c } as const;

/** ("Log description") */
export const LOG_REGION = { bytes: 0x00, offset: 0x08, size: 0x10 } as const;

/** ("Inflight description") Its four fields, and the padding that front-ends send. */
export const INFLIGHT = { bytes: 0x00, offset: 0x08, queues: 0x10, queueSize: 0x12, size: 0x18 } as const;
/** The part of one split virtqueue in the inflight region: a header, then an entry per descriptor. */
export const INFLIGHT_QUEUE = {
  lastBatchHead: 0x0c,
  usedIndex: 0x0e,
  entries: 0x10,
  alignment: 0x40,
} as const;
export const INFLIGHT_ENTRY = { inFlight: 0x00, size: 0x10 } as const;

/** ("Memory regions description") The regions follow, at most MAX_VHOST_REGIONS. */
export const MEM_TABLE = { count: 0x00, regions: 0x08 } as const;
export const MEM_REGION = {
  guestAddress: 0x00,
  bytes: 0x08,
  userAddress: 0x10,
  mapOffset: 0x18,
  size: 0x20,
} as const;
export const MAX_VHOST_REGIONS = 8;

/** Feature bit of the protocol itself: the back-end has protocol features. Never offered to a driver. */
export const PROTOCOL_FEATURES_BIT = 30;

/** VHOST_F_LOG_ALL: the back-end notes the pages of guest RAM that it writes. Never offered to a driver. */
export const LOG_ALL_BIT = 26;

/** Protocol feature bits. */
export const VHOST_PROTOCOL_FEATURE = {
  multiQueue: 0,
  logShmFd: 1,
  replyAck: 3,
  config: 9,
  inflightShmFd: 12,
} as const;
