/**
 * The frame that tells a network where an address is now, for guests that do not announce themselves: a RARP
 * request in which a station asks for its own address. It names no IP address, which Volt does not know, and
 * bridges learn the port from its source. (RFC 903)
 */
import { viewOf } from '../../binary/bytes.ts';
import { ETHERNET_HEADER_BYTES, NET_HEADER } from './regs.ts';

const ETHERNET = { destination: 0, source: 6, type: 12 } as const;
const ETHERTYPE_RARP = 0x8035;
/** Without the checksum. (IEEE 802.3) */
const SHORTEST_FRAME_BYTES = 60;

/** Big-endian fields, as ARP's. (RFC 826) */
const ARP = {
  hardwareType: 0,
  protocolType: 2,
  hardwareBytes: 4,
  protocolBytes: 5,
  operation: 6,
  senderHardware: 8,
  senderProtocol: 14,
  targetHardware: 18,
  targetProtocol: 24,
  size: 28,
} as const;
const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;
const RARP_REQUEST = 3;

/** The packet for a port, with an empty virtio-net header, from the station with these six bytes of address. */
export function encodeAnnouncement(mac: Uint8Array): Uint8Array {
  const packet = new Uint8Array(NET_HEADER.size + SHORTEST_FRAME_BYTES);
  const frame = packet.subarray(NET_HEADER.size);
  const view = viewOf(frame);
  frame.fill(0xff, ETHERNET.destination, ETHERNET.source);
  frame.set(mac, ETHERNET.source);
  view.setUint16(ETHERNET.type, ETHERTYPE_RARP);
  const at = ETHERNET_HEADER_BYTES;
  view.setUint16(at + ARP.hardwareType, HARDWARE_ETHERNET);
  view.setUint16(at + ARP.protocolType, PROTOCOL_IPV4);
  view.setUint8(at + ARP.hardwareBytes, mac.length);
  view.setUint8(at + ARP.protocolBytes, 4);
  view.setUint16(at + ARP.operation, RARP_REQUEST);
  frame.set(mac, at + ARP.senderHardware);
  frame.set(mac, at + ARP.targetHardware);
  return packet;
}
