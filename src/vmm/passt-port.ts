/**
 * passt as the port of a network device: frames over a Unix stream, each behind its length, a big-endian u32. It
 * knows no offloads, so virtio's packet header stays here. (passt(1), "--socket"; QEMU's -netdev stream is the same)
 */
import type { IoVector } from '../devices/virtio/io-vector.ts';
import { PORT_RESULT, type NetPort } from '../devices/virtio/net-port.ts';
import { LARGEST_PACKET_BYTES, NET_HEADER } from '../devices/virtio/net.regs.ts';
import { copyFromHost, copyToHost } from '../ffi/copy-memory.ts';
import { receiveBytes, sendBytes } from '../ffi/unix-stream.ts';

const LENGTH_BYTES = 4;
const INPUT_BYTES = 256 * 1024;
const MAX_FRAME_BYTES = LARGEST_PACKET_BYTES - NET_HEADER.size;
const NO_HEADER = new Uint8Array(NET_HEADER.size);

export class PasstPort implements NetPort {
  readonly #fd: number;
  readonly #output = new Uint8Array(LENGTH_BYTES + MAX_FRAME_BYTES);
  readonly #outputView = new DataView(this.#output.buffer);
  /** What is left of a frame that did not go out whole: from here to there in #output. */
  #unsentFrom = 0;
  #unsentTo = 0;
  readonly #input = new Uint8Array(INPUT_BYTES);
  readonly #inputView = new DataView(this.#input.buffer);
  #inputFrom = 0;
  #inputTo = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Sends what is left of the frame before, if there is something; false while it does not go out. */
  flush(): boolean {
    if (this.#unsentFrom === this.#unsentTo) return true;
    const sent = sendBytes(this.#fd, this.#output.subarray(this.#unsentFrom, this.#unsentTo));
    if (sent > 0) this.#unsentFrom += sent;
    return this.#unsentFrom === this.#unsentTo;
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
    this.#unsentFrom = 0;
    this.#unsentTo = at;
    this.flush();
    return packet.bytes;
  }

  receive(packet: IoVector): number {
    const bytes = this.#nextFrame();
    if (bytes < 0) return PORT_RESULT.wouldBlock;
    const start = this.#inputFrom + LENGTH_BYTES;
    this.#inputFrom = start + bytes;
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
      const there = this.#inputTo - this.#inputFrom;
      if (there >= LENGTH_BYTES) {
        const bytes = this.#inputView.getUint32(this.#inputFrom);
        // No frame, and so nobody knows where the next begins.
        if (bytes > MAX_FRAME_BYTES) return -1;
        if (there >= LENGTH_BYTES + bytes) return bytes;
      }
      if (!this.#readMore()) return -1;
    }
  }

  #readMore(): boolean {
    if (this.#inputFrom > 0) {
      this.#input.copyWithin(0, this.#inputFrom, this.#inputTo);
      this.#inputTo -= this.#inputFrom;
      this.#inputFrom = 0;
    }
    const room = INPUT_BYTES - this.#inputTo;
    const got = receiveBytes(this.#fd, this.#input.subarray(this.#inputTo), room);
    if (got <= 0) return false;
    this.#inputTo += got;
    return true;
  }
}
