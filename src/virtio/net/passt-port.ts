/**
 * passt as the port of a network device: frames over a Unix stream, each after its length as a big-endian
 * u32. It has no offloads, so the virtio header is removed and added here. (passt(1), "--socket"; as QEMU's
 * -netdev stream)
 */
import type { IoVector } from '../transport/io-vector.ts';
import { PORT_RESULT, type NetPort } from './port.ts';
import { LARGEST_PACKET_BYTES, NET_HEADER } from './regs.ts';
import { copyFromHost, copyToHost } from '../../ffi/copy-memory.ts';
import { receiveBytes, sendBytes } from '../../ffi/unix-stream.ts';

const LENGTH_BYTES = 4;
const INPUT_BYTES = 256 * 1024;
const MAX_FRAME_BYTES = LARGEST_PACKET_BYTES - NET_HEADER.size;
const OUTPUT_BYTES = 4 * Math.ceil((LENGTH_BYTES + MAX_FRAME_BYTES) / 4);
const WORD = { unsentFrom: 0, unsentTo: 1, inputFrom: 2, inputTo: 3, size: 4 } as const;
const NO_HEADER = new Uint8Array(NET_HEADER.size);

/** Buffer for partial frames, which a port hands to the next one that uses the same stream. */
export function createPasstBuffer(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * WORD.size + OUTPUT_BYTES + INPUT_BYTES);
}

export class PasstPort implements NetPort {
  readonly #fd: number;
  /** By WORD: start and end of the pending output and input. */
  readonly #words: Int32Array;
  readonly #output: Uint8Array;
  readonly #outputView: DataView;
  readonly #input: Uint8Array;
  readonly #inputView: DataView;
  #desynchronised = false;

  /**
   * `buffer` from createPasstBuffer; a later port for the same stream continues with it, even inside a frame.
   */
  constructor(fd: number, buffer: SharedArrayBuffer) {
    this.#fd = fd;
    this.#words = new Int32Array(buffer, 0, WORD.size);
    this.#output = new Uint8Array(buffer, 4 * WORD.size, OUTPUT_BYTES);
    this.#input = new Uint8Array(buffer, 4 * WORD.size + OUTPUT_BYTES, INPUT_BYTES);
    this.#outputView = new DataView(buffer, this.#output.byteOffset, OUTPUT_BYTES);
    this.#inputView = new DataView(buffer, this.#input.byteOffset, INPUT_BYTES);
  }

  /** A length in the stream was impossible, so frame boundaries are lost for good. */
  get desynchronised(): boolean {
    return this.#desynchronised;
  }

  /** Sends the rest of the previous frame, if any; false while some of it is still pending. */
  flush(): boolean {
    if (this.#words[WORD.unsentFrom]! === this.#words[WORD.unsentTo]!) return true;
    const sent = sendBytes(
      this.#fd,
      this.#output.subarray(this.#words[WORD.unsentFrom]!, this.#words[WORD.unsentTo]!),
    );
    if (sent > 0) this.#words[WORD.unsentFrom] = this.#words[WORD.unsentFrom]! + sent;
    return this.#words[WORD.unsentFrom]! === this.#words[WORD.unsentTo]!;
  }

  sendBytes(packet: Uint8Array): void {
    if (!this.flush()) return;
    this.#output.set(packet.subarray(NET_HEADER.size), LENGTH_BYTES);
    this.#sendFrame(packet.length - NET_HEADER.size);
  }

  send(packet: IoVector): number {
    if (!this.flush()) return PORT_RESULT.wouldBlock;
    let [skip, at]: [number, number] = [NET_HEADER.size, LENGTH_BYTES];
    for (let i = 0; i < packet.count; i++) {
      const length = packet.lengthOf(i);
      if (skip < length) {
        copyFromHost(this.#output, at, packet.hostOf(i) + skip, length - skip);
        at += length - skip;
      }
      skip = Math.max(0, skip - length);
    }
    this.#sendFrame(packet.bytes - NET_HEADER.size);
    return packet.bytes;
  }

  /** Sends the frame of `bytes` bytes that is in the output buffer, behind its length. */
  #sendFrame(bytes: number): void {
    this.#outputView.setUint32(0, bytes);
    this.#words[WORD.unsentFrom] = 0;
    this.#words[WORD.unsentTo] = LENGTH_BYTES + bytes;
    this.flush();
  }

  receive(packet: IoVector): number {
    const bytes = this.#nextFrame();
    if (bytes < 0) return PORT_RESULT.wouldBlock;
    const start = this.#words[WORD.inputFrom]! + LENGTH_BYTES;
    this.#words[WORD.inputFrom] = start + bytes;
    const total = NET_HEADER.size + bytes;
    let done = 0;
    for (let i = 0; i < packet.count && done < total; i++) {
      const [host, length] = [packet.hostOf(i), packet.lengthOf(i)];
      const header = Math.min(length, Math.max(0, NET_HEADER.size - done));
      if (header > 0) copyToHost(host, NO_HEADER, 0, header);
      const piece = Math.min(length, total - done) - header;
      if (piece > 0) copyToHost(host + header, this.#input, start + done + header - NET_HEADER.size, piece);
      done += header + piece;
    }
    return done;
  }

  /** Bytes of the next frame, once it has arrived completely; -1: not yet. */
  #nextFrame(): number {
    for (;;) {
      const available = this.#words[WORD.inputTo]! - this.#words[WORD.inputFrom]!;
      if (available >= LENGTH_BYTES) {
        const bytes = this.#inputView.getUint32(this.#words[WORD.inputFrom]!);
        if (bytes > MAX_FRAME_BYTES) {
          this.#desynchronised = true;
          return -1;
        }
        if (available >= LENGTH_BYTES + bytes) return bytes;
      }
      if (!this.#readMore()) return -1;
    }
  }

  #readMore(): boolean {
    if (this.#words[WORD.inputFrom]! > 0) {
      this.#input.copyWithin(0, this.#words[WORD.inputFrom]!, this.#words[WORD.inputTo]!);
      this.#words[WORD.inputTo] = this.#words[WORD.inputTo]! - this.#words[WORD.inputFrom]!;
      this.#words[WORD.inputFrom] = 0;
    }
    const room = INPUT_BYTES - this.#words[WORD.inputTo]!;
    const got = receiveBytes(this.#fd, this.#input.subarray(this.#words[WORD.inputTo]!), room);
    if (got <= 0) return false;
    this.#words[WORD.inputTo] = this.#words[WORD.inputTo]! + got;
    return true;
  }
}
