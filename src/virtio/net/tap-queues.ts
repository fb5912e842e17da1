/**
 * The queues of a tap as ports of a network device; the kernel copies packets from and to guest memory
 * directly.
 */
import type { IoVector } from '../transport/io-vector.ts';
import { MAX_PIECES } from '../transport/io-vector.ts';
import { PORT_RESULT, type GuestOffloads, type NetPort } from './port.ts';
import { ERRNO } from '../../ffi/errno.ts';
import {
  readVector,
  setTapOffloads,
  setTapQueue,
  TAP_OFFLOAD,
  writeBytes,
  writeVector,
} from '../../ffi/tap.ts';

export class TapPort implements NetPort {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  send(packet: IoVector): number {
    const sent = writeVector(this.fd, packet.words, packet.first, packet.count);
    if (sent >= 0) return sent;
    // Other errors: the interface is down or deleted, or the kernel rejects the header.
    return sent === -ERRNO.EAGAIN ? PORT_RESULT.wouldBlock : PORT_RESULT.dropped;
  }

  sendBytes(packet: Uint8Array): void {
    writeBytes(this.fd, packet);
  }

  receive(packet: IoVector): number {
    const got = readVector(this.fd, packet.words, packet.first, Math.min(packet.count, MAX_PIECES));
    // A deleted tap has no packets; epoll reports its deletion.
    return got >= 0 ? got : PORT_RESULT.wouldBlock;
  }
}

/** All queues of one tap. Offloads are set through the first; `#active` counts the attached ones. */
export class TapQueues {
  readonly ports: readonly TapPort[];
  #active: number;

  constructor(fds: readonly number[]) {
    this.ports = fds.map((fd) => new TapPort(fd));
    this.#active = fds.length;
  }

  setOffloads({ csum, tso4, tso6, ecn, ufo }: GuestOffloads): void {
    const bits =
      (csum ? TAP_OFFLOAD.csum : 0) |
      (tso4 ? TAP_OFFLOAD.tso4 : 0) |
      (tso6 ? TAP_OFFLOAD.tso6 : 0) |
      (ecn ? TAP_OFFLOAD.ecn : 0) |
      (ufo ? TAP_OFFLOAD.ufo : 0);
    this.#ignoreRefusal(() => setTapOffloads(this.ports[0]!.fd, bits));
  }

  setActivePorts(count: number): void {
    for (; this.#active < count; this.#active++)
      this.#ignoreRefusal(() => setTapQueue(this.ports[this.#active]!.fd, true));
    for (; this.#active > count; this.#active--)
      this.#ignoreRefusal(() => setTapQueue(this.ports[this.#active - 1]!.fd, false));
  }

  /**
   * A deleted tap refuses everything; its guest's link is down already. A queue that is attached or detached
   * already, from before a reset, refuses to be so again.
   */
  #ignoreRefusal(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof Error && 'errno' in error && REFUSALS.includes(error.errno as number)))
        throw error;
    }
  }
}

const EBADFD = 77;
const REFUSALS: readonly number[] = [EBADFD, ERRNO.EINVAL];
