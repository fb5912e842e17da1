/** The memory device: features, configuration space, requests. (Virtual I/O Device 1.2 §5.15) */

/** Feature bits. (§5.15.3) */
export const MEM_FEATURE = { acpiPxm: 0, unpluggedInaccessible: 1 } as const;

/** Configuration space, read-only. (§5.15.4) */
export const MEM_CONFIG = {
  blockSize: 0x00,
  nodeId: 0x08,
  address: 0x10,
  regionSize: 0x18,
  usableRegionSize: 0x20,
  pluggedSize: 0x28,
  requestedSize: 0x30,
  size: 0x38,
} as const;

/** `struct virtio_mem_req` (§5.15.6) */
export const MEM_REQUEST = { type: 0x00, address: 0x08, blocks: 0x10, size: 0x18 } as const;
/** VIRTIO_MEM_REQ_… */
export const MEM_REQUEST_TYPE = { plug: 0, unplug: 1, unplugAll: 2, state: 3 } as const;

/** `struct virtio_mem_resp` */
export const MEM_RESPONSE = { type: 0x00, state: 0x08, size: 0x0a } as const;
/** VIRTIO_MEM_RESP_… */
export const MEM_RESPONSE_TYPE = { ack: 0, nack: 1, busy: 2, error: 3 } as const;
/** VIRTIO_MEM_STATE_… */
export const MEM_STATE = { plugged: 0, unplugged: 1, mixed: 2 } as const;

/** Words of plugged blocks in a snapshot's state. */
export const MAX_MEM_WORDS = 8192;
