/**
 * The network device: features, configuration space, packet header, control commands. (Virtual I/O Device 1.2
 * §5.1)
 */

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
  guestAnnounce: 21,
  mq: 22,
} as const;

/** Configuration space. (§5.1.4) */
export const NET_CONFIG = { mac: 0, status: 6, maxQueuePairs: 8, mtu: 10, size: 12 } as const;
export const NET_STATUS = { linkUpBit: 1, announceBit: 2 } as const;

/** `struct virtio_net_hdr`, which precedes every packet. (§5.1.6) */
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

/** `struct virtio_net_ctrl`: class, command and data, then the device's ack byte. (§5.1.6.5) */
export const NET_CONTROL = { class: 0, command: 1, data: 2 } as const;
export const NET_CONTROL_CLASS = { announce: 3, multiqueue: 4, guestOffloads: 5 } as const;
export const NET_ANNOUNCE_ACK = 0;
export const NET_MQ_PAIRS_SET = 0;
export const NET_GUEST_OFFLOADS_SET = 0;
export const NET_ACK = { ok: 0, error: 1 } as const;

export const MAX_QUEUE_PAIRS = 16;
export const ETHERNET_HEADER_BYTES = 14;
/** virtio header, Ethernet header, VLAN tag, and the largest payload of an unsegmented packet. */
export const LARGEST_PACKET_BYTES = NET_HEADER.size + ETHERNET_HEADER_BYTES + 4 + 65_535;
