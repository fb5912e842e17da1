/**
 * The frame that tells a network where an address is now, for guests that do not announce themselves: a RARP
 * request in which a station asks for its own address. It names no IP address, which Volt does not know, and
 * bridges learn the port from its source. (RFC 903)
 */
import { viewOf } from '../../binary/bytes.ts';
import { ARP, ETHERNET } from './ethernet.ts';
import { NET_HEADER } from './regs.ts';

const ETHERTYPE_RARP = 0x8035;
/** Without the checksum. (IEEE 802.3) */
const SHORTEST_FRAME_BYTES = 60;

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
  const at = ETHERNET.size;
  view.setUint16(at + ARP.hardware, HARDWARE_ETHERNET);
  view.setUint16(at + ARP.protocol, PROTOCOL_IPV4);
  view.setUint8(at + ARP.hardwareBytes, mac.length);
  view.setUint8(at + ARP.protocolBytes, 4);
  view.setUint16(at + ARP.operation, RARP_REQUEST);
  frame.set(mac, at + ARP.senderMac);
  frame.set(mac, at + ARP.targetMac);
  return packet;
}
