/** The network device: features, configuration space, packet header, control commands. (Virtual I/O Device 1.2 §5.1) */

/** Feature bits. (§5.1.3) */
export const NET_FEATURE = {
  csum: 0,
  guestCsum: 1,
  ctrlGuestOffloads: 2,
  mtu: 3,
  mac: 5,
  guestTso4: 7,
  guestTso6: 8,
  guestEcn: 9,
  guestUfo: 10,
  hostTso4: 11,
  hostTso6: 12,
  hostEcn: 13,
  hostUfo: 14,
  mrgRxbuf: 15,
  status: 16,
  ctrlVq: 17,
  mq: 22,
} as const;

/** Configuration space. (§5.1.4) */
export const NET_CONFIG = { mac: 0, status: 6, maxQueuePairs: 8, mtu: 10, size: 12 } as const;
export const NET_STATUS = { linkUpBit: 1 } as const;

/** In front of every packet: `struct virtio_net_hdr` of a modern device. (§5.1.6) */
export const NET_HEADER = {
  flags: 0,
  gsoType: 1,
  headerLength: 2,
  gsoSize: 4,
  checksumStart: 6,
  checksumOffset: 8,
  bufferCount: 10,
  size: 12,
} as const;

/** Commands of the control queue: class, command, data, then the device's one byte of answer. (§5.1.6.5) */
export const NET_CONTROL = { class: 0, command: 1, data: 2 } as const;
export const NET_CONTROL_CLASS = { multiqueue: 4, guestOffloads: 5 } as const;
export const NET_MQ_PAIRS_SET = 0;
export const NET_GUEST_OFFLOADS_SET = 0;
export const NET_ANSWER = { ok: 0, error: 1 } as const;

export const MAX_QUEUE_PAIRS = 16;
export const ETHERNET_HEADER_BYTES = 14;
/** A frame with everything that an offload may leave in one piece, plus header and VLAN tag. */
export const LARGEST_PACKET_BYTES = NET_HEADER.size + ETHERNET_HEADER_BYTES + 4 + 65_535;
