/** The socket device. (Virtual I/O Device 1.2 §5.10) */

/** Queues. (§5.10.2) */
export const VSOCK_QUEUE = { receive: 0, transmit: 1, event: 2 } as const;

/** Configuration space: the guest's context id. (§5.10.4) */
export const VSOCK_CONFIG = { guestCid: 0, size: 8 } as const;

/** `struct virtio_vsock_hdr` (§5.10.6) */
export const VSOCK_HEADER = {
  sourceCid: 0,
  destinationCid: 8,
  sourcePort: 16,
  destinationPort: 20,
  length: 24,
  type: 28,
  operation: 30,
  flags: 32,
  bufferAlloc: 36,
  forwardCount: 40,
  size: 44,
} as const;

/** `struct virtio_vsock_event`: a u32 id. (§5.10.6.7) */
export const VSOCK_EVENT = { size: 4 } as const;
/** VIRTIO_VSOCK_EVENT_TRANSPORT_RESET: all connections are gone, and the guest's context id may be another. */
export const VSOCK_EVENT_TRANSPORT_RESET = 0;

/** VIRTIO_VSOCK_TYPE_STREAM (§5.10.6) */
export const VSOCK_TYPE_STREAM = 1;

/** VIRTIO_VSOCK_OP_… (§5.10.6) */
export const VSOCK_OP = {
  request: 1,
  response: 2,
  reset: 3,
  shutdown: 4,
  data: 5,
  creditUpdate: 6,
  creditRequest: 7,
} as const;

/** Directions that the sender of a shutdown gives up. (§5.10.6.5) */
export const VSOCK_SHUTDOWN = { receiveBit: 1, sendBit: 2, bothBits: 3 } as const;

/** Context ids. (§5.10.4) */
export const HOST_CID = 2;
/** 0 to 2 are reserved for hypervisor, loopback and host; 0xffffffff means any. */
export const MIN_GUEST_CID = 3;
export const MAX_GUEST_CID = 0xffff_fffe;
