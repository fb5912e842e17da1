/**
 * Ethernet frames of ARP and of TCP over IPv4, as far as a server for one guest needs them. (RFC 826, RFC 791, RFC 9293)
 * Frames come from the guest: every field is read once and checked against the frame's end.
 */
import { viewOf } from '../../../binary/bytes.ts';
import { ARP, ETHERNET } from '../ethernet.ts';

const ETHER_TYPE = { ipv4: 0x0800, arp: 0x0806 } as const;
const ARP_OPERATION = { request: 1, reply: 2 } as const;
const IPV4 = {
  versionAndWords: 0,
  total: 2,
  flags: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  size: 20,
} as const;
const PROTOCOL_TCP = 6;
/** More fragments, and the offset. */
const FRAGMENT_MASK = 0x3fff;
const TCP = {
  source: 0,
  destination: 2,
  sequence: 4,
  acknowledgement: 8,
  words: 12,
  flags: 13,
  window: 14,
  checksum: 16,
  size: 20,
} as const;
export const TCP_FLAG = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10 } as const;
const TCP_OPTION = { end: 0, nothing: 1, segmentBytes: 2 } as const;
const TTL = 1;

export interface ArpRequest {
  readonly kind: 'arp';
  readonly senderMac: Uint8Array;
  /** Addresses are u32. */
  readonly senderAddress: number;
}

export interface TcpSegment {
  readonly kind: 'tcp';
  readonly sourceMac: Uint8Array;
  readonly sourceAddress: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  /** The option MSS; undefined without it. */
  readonly segmentBytes: number | undefined;
  readonly payload: Uint8Array;
}

/** Whether a frame's first bytes say that it is for this address. Cheap: called for each packet of the guest. */
export function isFor(head: Uint8Array, bytes: number, address: number): boolean {
  const view = viewOf(head);
  if (bytes < ETHERNET.size + ARP.size) return false;
  const type = view.getUint16(ETHERNET.type);
  if (type === ETHER_TYPE.ipv4) return view.getUint32(ETHERNET.size + IPV4.destination) === address;
  return type === ETHER_TYPE.arp && view.getUint32(ETHERNET.size + ARP.targetAddress) === address;
}

/** Bytes of a frame that `isFor` looks at. */
export const HEAD_BYTES = ETHERNET.size + ARP.size;

/** undefined: not a valid request for an address, nor a whole TCP segment. Checksums may be the guest's to leave out. */
export function parseFrame(frame: Uint8Array): ArpRequest | TcpSegment | undefined {
  if (frame.length < ETHERNET.size) return undefined;
  const type = viewOf(frame).getUint16(ETHERNET.type);
  const body = frame.subarray(ETHERNET.size);
  if (type === ETHER_TYPE.arp) return parseArp(body);
  return type === ETHER_TYPE.ipv4 ? parseIpv4(frame.slice(ETHERNET.source, ETHERNET.type), body) : undefined;
}

function parseArp(body: Uint8Array): ArpRequest | undefined {
  if (body.length < ARP.size) return undefined;
  const view = viewOf(body);
  const isEthernet =
    view.getUint16(ARP.hardware) === 1 &&
    view.getUint16(ARP.protocol) === ETHER_TYPE.ipv4 &&
    view.getUint8(ARP.hardwareBytes) === 6 &&
    view.getUint8(ARP.protocolBytes) === 4;
  if (!isEthernet || view.getUint16(ARP.operation) !== ARP_OPERATION.request) return undefined;
  return {
    kind: 'arp',
    senderMac: body.slice(ARP.senderMac, ARP.senderAddress),
    senderAddress: view.getUint32(ARP.senderAddress),
  };
}

function parseIpv4(sourceMac: Uint8Array, body: Uint8Array): TcpSegment | undefined {
  if (body.length < IPV4.size) return undefined;
  const view = viewOf(body);
  const first = view.getUint8(IPV4.versionAndWords);
  const headerBytes = 4 * (first & 0xf);
  const total = view.getUint16(IPV4.total);
  if (first >> 4 !== 4 || headerBytes < IPV4.size || total < headerBytes || total > body.length)
    return undefined;
  if (view.getUint16(IPV4.flags) & FRAGMENT_MASK || view.getUint8(IPV4.protocol) !== PROTOCOL_TCP)
    return undefined;
  return parseTcp(sourceMac, view.getUint32(IPV4.source), body.subarray(headerBytes, total));
}

function parseTcp(sourceMac: Uint8Array, sourceAddress: number, segment: Uint8Array): TcpSegment | undefined {
  if (segment.length < TCP.size) return undefined;
  const view = viewOf(segment);
  const headerBytes = 4 * (view.getUint8(TCP.words) >> 4);
  if (headerBytes < TCP.size || headerBytes > segment.length) return undefined;
  return {
    kind: 'tcp',
    sourceMac,
    sourceAddress,
    sourcePort: view.getUint16(TCP.source),
    destinationPort: view.getUint16(TCP.destination),
    sequence: view.getUint32(TCP.sequence),
    acknowledgement: view.getUint32(TCP.acknowledgement),
    flags: view.getUint8(TCP.flags),
    window: view.getUint16(TCP.window),
    segmentBytes: findSegmentBytes(segment.subarray(TCP.size, headerBytes)),
    payload: segment.slice(headerBytes),
  };
}

function findSegmentBytes(options: Uint8Array): number | undefined {
  for (let at = 0; at < options.length;) {
    const kind = options[at]!;
    if (kind === TCP_OPTION.end) return undefined;
    if (kind === TCP_OPTION.nothing) {
      at++;
      continue;
    }
    const length = options[at + 1] ?? 0;
    if (length < 2 || at + length > options.length) return undefined;
    if (kind === TCP_OPTION.segmentBytes && length === 4) return (options[at + 2]! << 8) | options[at + 3]!;
    at += length;
  }
  return undefined;
}

/** The answer to a request for `address`. */
export function buildArpReply(
  { senderMac, senderAddress }: ArpRequest,
  mac: Uint8Array,
  address: number,
): Uint8Array {
  const frame = new Uint8Array(ETHERNET.size + ARP.size);
  const view = putEthernet(frame, senderMac, mac, ETHER_TYPE.arp);
  const at = ETHERNET.size;
  view.setUint16(at + ARP.hardware, 1);
  view.setUint16(at + ARP.protocol, ETHER_TYPE.ipv4);
  view.setUint8(at + ARP.hardwareBytes, 6);
  view.setUint8(at + ARP.protocolBytes, 4);
  view.setUint16(at + ARP.operation, ARP_OPERATION.reply);
  frame.set(mac, at + ARP.senderMac);
  view.setUint32(at + ARP.senderAddress, address);
  frame.set(senderMac, at + ARP.targetMac);
  view.setUint32(at + ARP.targetAddress, senderAddress);
  return frame;
}

export interface TcpReply {
  readonly fromMac: Uint8Array;
  readonly toMac: Uint8Array;
  readonly fromAddress: number;
  readonly toAddress: number;
  readonly fromPort: number;
  readonly toPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  /** Sent as the option MSS. */
  readonly segmentBytes?: number | undefined;
  readonly payload?: Uint8Array | undefined;
}

export function buildTcp(reply: TcpReply): Uint8Array {
  const { payload, segmentBytes } = reply;
  const headerBytes = TCP.size + (segmentBytes === undefined ? 0 : 4);
  const tcpBytes = headerBytes + (payload?.length ?? 0);
  const frame = new Uint8Array(ETHERNET.size + IPV4.size + tcpBytes);
  const view = putEthernet(frame, reply.toMac, reply.fromMac, ETHER_TYPE.ipv4);
  const ip = ETHERNET.size;
  view.setUint8(ip + IPV4.versionAndWords, 0x45);
  view.setUint16(ip + IPV4.total, IPV4.size + tcpBytes);
  view.setUint8(ip + IPV4.ttl, TTL);
  view.setUint8(ip + IPV4.protocol, PROTOCOL_TCP);
  view.setUint32(ip + IPV4.source, reply.fromAddress);
  view.setUint32(ip + IPV4.destination, reply.toAddress);
  view.setUint16(ip + IPV4.checksum, checksum(frame.subarray(ip, ip + IPV4.size), 0));
  const tcp = ip + IPV4.size;
  view.setUint16(tcp + TCP.source, reply.fromPort);
  view.setUint16(tcp + TCP.destination, reply.toPort);
  view.setUint32(tcp + TCP.sequence, reply.sequence >>> 0);
  view.setUint32(tcp + TCP.acknowledgement, reply.acknowledgement >>> 0);
  view.setUint8(tcp + TCP.words, (headerBytes / 4) << 4);
  view.setUint8(tcp + TCP.flags, reply.flags);
  view.setUint16(tcp + TCP.window, reply.window);
  if (segmentBytes !== undefined)
    view.setUint32(tcp + TCP.size, ((TCP_OPTION.segmentBytes << 24) | (4 << 16) | segmentBytes) >>> 0);
  if (payload) frame.set(payload, tcp + headerBytes);
  const { fromAddress: a, toAddress: b } = reply;
  const pseudo = (a >>> 16) + (a & 0xffff) + (b >>> 16) + (b & 0xffff) + PROTOCOL_TCP + tcpBytes;
  view.setUint16(tcp + TCP.checksum, checksum(frame.subarray(tcp), pseudo));
  return frame;
}

function putEthernet(frame: Uint8Array, to: Uint8Array, from: Uint8Array, type: number): DataView {
  const view = viewOf(frame);
  frame.set(to, ETHERNET.destination);
  frame.set(from, ETHERNET.source);
  view.setUint16(ETHERNET.type, type);
  return view;
}

/** The Internet checksum. (RFC 1071) */
function checksum(bytes: Uint8Array, start: number): number {
  let sum = start;
  for (let i = 0; i + 1 < bytes.length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  if (bytes.length % 2 === 1) sum += bytes[bytes.length - 1]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
