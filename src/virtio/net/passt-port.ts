/**
 * passt as the port of a network device: frames over a Unix stream, each behind its length, a big-endian u32. It
 * knows no offloads, so virtio's packet header stays here. (passt(1), "--socket"; QEMU's -netdev stream is the same)
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

/** What a stream needs to be handed from one port to the next. */
export function createPasstBuffer(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * WORD.size + OUTPUT_BYTES + INPUT_BYTES);
}

export class PasstPort implements NetPort {
  readonly #fd: number;
  /** Of WORD: where what is left of output and input begins and ends. */
  readonly #words: Int32Array;
  readonly #output: Uint8Array;
  readonly #outputView: DataView;
  readonly #input: Uint8Array;
  readonly #inputView: DataView;
  #lost = false;

  /** `buffer` by createPasstBuffer; a port for the same stream later goes on with it in the middle of a frame. */
  constructor(fd: number, buffer: SharedArrayBuffer) {
    this.#fd = fd;
    this.#words = new Int32Array(buffer, 0, WORD.size);
    this.#output = new Uint8Array(buffer, 4 * WORD.size, OUTPUT_BYTES);
    this.#input = new Uint8Array(buffer, 4 * WORD.size + OUTPUT_BYTES, INPUT_BYTES);
    this.#outputView = new DataView(buffer, this.#output.byteOffset, OUTPUT_BYTES);
    this.#inputView = new DataView(buffer, this.#input.byteOffset, INPUT_BYTES);
  }

  /** Whether the stream went astray: something in it was no frame, and nobody knows where the next begins. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Sends what is left of the frame before, if there is something; false while it does not go out. */
  flush(): boolean {
    if (this.#words[WORD.unsentFrom]! === this.#words[WORD.unsentTo]!) return true;
    const sent = sendBytes(
      this.#fd,
      this.#output.subarray(this.#words[WORD.unsentFrom]!, this.#words[WORD.unsentTo]!),
    );
    if (sent > 0) this.#words[WORD.unsentFrom] = this.#words[WORD.unsentFrom]! + sent;
    return this.#words[WORD.unsentFrom]! === this.#words[WORD.unsentTo]!;
  }

  send(packet: IoVector): number {
    if (!this.flush()) return PORT_RESULT.wouldBlock;
    const bytes = packet.bytes - NET_HEADER.size;
    let [skip, at]: [number, number] = [NET_HEADER.size, LENGTH_BYTES];
    for (let i = 0; i < packet.count; i++) {
      const length = packet.lengthOf(i);
      if (skip < length) {
        copyFromHost(this.#output, at, packet.hostOf(i) + skip, length - skip);
        at += length - skip;
      }
      skip = Math.max(0, skip - length);
    }
    this.#outputView.setUint32(0, bytes);
    this.#words[WORD.unsentFrom] = 0;
    this.#words[WORD.unsentTo] = at;
    this.flush();
    return packet.bytes;
  }

  receive(packet: IoVector): number {
    const bytes = this.#nextFrame();
    if (bytes < 0) return PORT_RESULT.wouldBlock;
    const start = this.#words[WORD.inputFrom]! + LENGTH_BYTES;
    this.#words[WORD.inputFrom] = start + bytes;
    const whole = NET_HEADER.size + bytes;
    let done = 0;
    for (let i = 0; i < packet.count && done < whole; i++) {
      const [host, length] = [packet.hostOf(i), packet.lengthOf(i)];
      const header = Math.min(length, Math.max(0, NET_HEADER.size - done));
      if (header > 0) copyToHost(host, NO_HEADER, 0, header);
      const piece = Math.min(length, whole - done) - header;
      if (piece > 0) copyToHost(host + header, this.#input, start + done + header - NET_HEADER.size, piece);
      done += header + piece;
    }
    return done;
  }

  /** Bytes of the next frame, which is all there then; -1: not yet. */
  #nextFrame(): number {
    for (;;) {
      const there = this.#words[WORD.inputTo]! - this.#words[WORD.inputFrom]!;
      if (there >= LENGTH_BYTES) {
        const bytes = this.#inputView.getUint32(this.#words[WORD.inputFrom]!);
        if (bytes > MAX_FRAME_BYTES) {
          this.#lost = true;
          return -1;
        }
        if (there >= LENGTH_BYTES + bytes) return bytes;
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
