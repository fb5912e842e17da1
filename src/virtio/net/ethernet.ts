/** Headers of Ethernet frames and of ARP in them; offsets in bytes, fields big-endian. (IEEE 802.3, RFC 826) */

export const ETHERNET = { destination: 0, source: 6, type: 12, size: 14 } as const;

export const ARP = {
  hardware: 0,
  protocol: 2,
  hardwareBytes: 4,
  protocolBytes: 5,
  operation: 6,
  senderMac: 8,
  senderAddress: 14,
  targetMac: 18,
  targetAddress: 24,
  size: 28,
} as const;
