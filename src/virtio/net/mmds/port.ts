/** Puts the metadata service in front of a network: its frames go no further, all others do. */
import { copyFromHost, copyToHost } from '../../../ffi/copy-memory.ts';
import type { IoVector } from '../../transport/io-vector.ts';
import { PORT_RESULT, type NetPort } from '../port.ts';
import { LARGEST_PACKET_BYTES, NET_HEADER } from '../regs.ts';
import { buildArpReply, HEAD_BYTES, isFor, parseFrame } from './frames.ts';
import { answerMmds, type MmdsEffects, type MmdsSettings } from './http.ts';
import { TcpServer } from './tcp-server.ts';

const HTTP_PORT = 80;
/** Locally administered; Firecracker's. */
const MAC = Uint8Array.of(0x06, 0x01, 0x23, 0x45, 0x67, 0x01);
/** Frames that wait for the guest's buffers; TCP sends again what is dropped beyond. */
const MAX_WAITING = 256;
const NO_HEADER = new Uint8Array(NET_HEADER.size);

export interface MmdsPortOptions extends MmdsSettings {
  /** A u32. */
  readonly address: number;
}

export interface MmdsPortEffects extends MmdsEffects {
  now(): number;
  after(delayMs: number, handler: () => void): () => void;
  random(): number;
  /** The port has a packet for the guest. Not called while a packet is sent. */
  readable(): void;
}

export class MmdsPort implements NetPort {
  readonly #inner: NetPort;
  readonly #address: number;
  readonly #effects: MmdsPortEffects;
  readonly #server: TcpServer;
  readonly #waiting: Uint8Array[] = [];
  readonly #head = new Uint8Array(HEAD_BYTES);
  #wakes = false;

  constructor(inner: NetPort, options: MmdsPortOptions, effects: MmdsPortEffects) {
    this.#inner = inner;
    this.#address = options.address;
    this.#effects = effects;
    const answer = (bytes: Uint8Array) => answerMmds(bytes, options, effects);
    this.#server = new TcpServer(
      { mac: MAC, address: options.address, port: HTTP_PORT, answer },
      {
        send: (frame) => this.#queue(frame),
        now: () => effects.now(),
        after: (delayMs, handler) => effects.after(delayMs, handler),
        random: () => effects.random(),
      },
    );
  }

  send(packet: IoVector): number {
    const bytes = packet.bytes - NET_HEADER.size;
    copyOut(packet, NET_HEADER.size, this.#head);
    if (!isFor(this.#head, bytes, this.#address)) return this.#inner.send(packet);
    const frame = new Uint8Array(Math.min(bytes, LARGEST_PACKET_BYTES));
    copyOut(packet, NET_HEADER.size, frame);
    const parsed = parseFrame(frame);
    if (parsed?.kind === 'arp') this.#queue(buildArpReply(parsed, MAC, this.#address));
    else if (parsed) this.#server.receive(parsed);
    return packet.bytes;
  }

  sendBytes(packet: Uint8Array): void {
    this.#inner.sendBytes(packet);
  }

  receive(packet: IoVector): number {
    const frame = this.#waiting.shift();
    if (!frame) return this.#inner.receive(packet);
    if (NET_HEADER.size + frame.length > packet.bytes) return PORT_RESULT.wouldBlock;
    copyIn(packet, 0, NO_HEADER);
    copyIn(packet, NET_HEADER.size, frame);
    return NET_HEADER.size + frame.length;
  }

  #queue(frame: Uint8Array): void {
    if (this.#waiting.length >= MAX_WAITING) return;
    this.#waiting.push(frame);
    if (this.#wakes) return;
    this.#wakes = true;
    this.#effects.after(0, () => {
      this.#wakes = false;
      this.#effects.readable();
    });
  }
}

/** Copies from `offset` of a packet on, as far as both reach. */
function copyOut(packet: IoVector, offset: number, target: Uint8Array): void {
  forEachPiece(packet, offset, target.length, (host, bytes, done) => copyFromHost(target, done, host, bytes));
}

function copyIn(packet: IoVector, offset: number, source: Uint8Array): void {
  forEachPiece(packet, offset, source.length, (host, bytes, done) => copyToHost(host, source, done, bytes));
}

/** SAFETY: the pieces of a packet are buffers in guest RAM that the queue has checked. */
function forEachPiece(
  packet: IoVector,
  offset: number,
  bytes: number,
  act: (host: number, bytes: number, done: number) => void,
): void {
  let [skip, done] = [offset, 0];
  for (let i = 0; i < packet.count && done < bytes; i++) {
    const length = packet.lengthOf(i);
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const piece = Math.min(length - skip, bytes - done);
    act(packet.hostOf(i) + skip, piece, done);
    done += piece;
    skip = 0;
  }
}
