/**
 * Packets of GDB's remote serial protocol: `$payload#checksum`, acknowledged by `+` or `-` until both sides agree to do
 * without. Pure. (GDB manual, appendix E.1 "Overview", E.11 "Packet Acknowledgment", E.4 "Stop Reply Packets")
 */

/** Limit of a payload in either direction, as sent; `qSupported` tells gdb. */
export const MAX_PACKET_BYTES = 0x4000;

export type GdbInput =
  | { readonly kind: 'packet'; readonly payload: Uint8Array }
  /** Ctrl-C: a byte 0x03 between packets. */
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'resend' }
  /** A packet with a wrong checksum, or one that is too long. */
  | { readonly kind: 'damaged' };

const START = 0x24;
const END = 0x23;
const ESCAPE = 0x7d;
const REPEAT = 0x2a;
const ESCAPE_XOR = 0x20;
const ACK = 0x2b;
const RESEND = 0x2d;
const INTERRUPT = 0x03;

/** What has arrived of a packet. */
export interface PacketReader {
  readonly payload: Uint8Array;
  state: 'between' | 'payload' | 'escape' | 'checksum-high' | 'checksum-low';
  length: number;
  overlong: boolean;
  sum: number;
  checksum: number;
}

export function createPacketReader(): PacketReader {
  const payload = new Uint8Array(MAX_PACKET_BYTES);
  return { payload, state: 'between', length: 0, overlong: false, sum: 0, checksum: 0 };
}

/** What `chunk` completes. Bytes that belong to no packet are ignored. */
export function readPackets(reader: PacketReader, chunk: Uint8Array): GdbInput[] {
  const found: GdbInput[] = [];
  for (const byte of chunk) {
    const input = readByte(reader, byte);
    if (input) found.push(input);
  }
  return found;
}

function readByte(reader: PacketReader, byte: number): GdbInput | undefined {
  switch (reader.state) {
    case 'between':
      if (byte === START) begin(reader);
      else if (byte === INTERRUPT) return { kind: 'interrupt' };
      else if (byte === ACK) return { kind: 'ack' };
      else if (byte === RESEND) return { kind: 'resend' };
      return undefined;
    case 'payload':
      if (byte === END) reader.state = 'checksum-high';
      // An unescaped start: the end of the packet before was lost.
      else if (byte === START) begin(reader);
      else if (byte === ESCAPE) {
        reader.sum += byte;
        reader.state = 'escape';
      } else append(reader, byte, byte);
      return undefined;
    case 'escape':
      append(reader, byte, byte ^ ESCAPE_XOR);
      reader.state = 'payload';
      return undefined;
    case 'checksum-high':
    case 'checksum-low':
      return readChecksum(reader, byte);
  }
}

function readChecksum(reader: PacketReader, byte: number): GdbInput | undefined {
  const digit = hexDigit(byte);
  if (digit === undefined) {
    reader.state = 'between';
    if (byte === START) begin(reader);
    return { kind: 'damaged' };
  }
  if (reader.state === 'checksum-high') {
    reader.checksum = digit << 4;
    reader.state = 'checksum-low';
    return undefined;
  }
  reader.checksum |= digit;
  reader.state = 'between';
  return finish(reader);
}

function begin(reader: PacketReader): void {
  Object.assign(reader, { state: 'payload', length: 0, overlong: false, sum: 0 });
}

function append(reader: PacketReader, raw: number, byte: number): void {
  reader.sum = (reader.sum + raw) & 0xff;
  if (reader.length < reader.payload.length) reader.payload[reader.length++] = byte;
  else reader.overlong = true;
}

function finish({ payload, length, overlong, sum, checksum }: PacketReader): GdbInput {
  if (overlong || (sum & 0xff) !== checksum) return { kind: 'damaged' };
  return { kind: 'packet', payload: payload.slice(0, length) };
}

function hexDigit(byte: number): number | undefined {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : undefined;
}

/** A packet to send; `payload` has one character for each byte. */
export function encodePacket(payload: string): Uint8Array {
  const bytes: number[] = [START];
  let sum = 0;
  const put = (byte: number) => {
    bytes.push(byte);
    sum = (sum + byte) & 0xff;
  };
  for (let i = 0; i < payload.length; i++) {
    const byte = payload.charCodeAt(i) & 0xff;
    if (byte === START || byte === END || byte === ESCAPE || byte === REPEAT) {
      put(ESCAPE);
      put(byte ^ ESCAPE_XOR);
    } else put(byte);
  }
  bytes.push(END);
  for (const digit of sum.toString(16).padStart(2, '0')) bytes.push(digit.charCodeAt(0));
  return Uint8Array.from(bytes);
}

/** Two lower-case digits for each byte. */
export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** undefined for anything but pairs of hexadecimal digits. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  return Uint8Array.from({ length: text.length / 2 }, (_, i) =>
    Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
  );
}
