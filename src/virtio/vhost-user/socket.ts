/** The socket of a vhost-user connection. Whoever is at its other end may be slow, silent, gone or malicious. */
import { VhostUserError, type VhostLink } from './session.ts';
import { ERRNO, errnoName } from '../../ffi/errno.ts';
import { sendWithFds, shutdownSocket, waitForSocket } from '../../ffi/socket-fds.ts';
import { receiveBytes } from '../../ffi/unix-stream.ts';

export const HUNG_UP = 'hung up';

export class VhostSocket implements VhostLink {
  readonly #fd: number;
  #deadline = 0;
  #allowedMs = 0;

  /** A Unix stream that does not block, and that somebody else owns. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** What is sent and received until the next call of this has so long, all together. */
  allow(ms: number): void {
    this.#allowedMs = ms;
    this.#deadline = performance.now() + ms;
  }

  send(message: Uint8Array, fds: readonly number[]): void {
    for (let done = 0; done < message.length;) {
      const sent = sendWithFds(this.#fd, message.subarray(done), done === 0 ? fds : []);
      if (sent > 0) done += sent;
      else this.#failOrWait(-sent, true);
    }
  }

  receive(target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      // Without room for control data: the kernel closes descriptors that come along.
      const got = receiveBytes(this.#fd, target.subarray(done), target.length - done);
      if (got === 0) throw new VhostUserError(HUNG_UP);
      if (got > 0) done += got;
      else this.#failOrWait(-got, false);
    }
  }

  /** Ends the connection for good. */
  sever(): void {
    shutdownSocket(this.#fd);
  }

  #failOrWait(errno: number, write: boolean): void {
    if (errno === ERRNO.EINTR) return;
    if (errno === ERRNO.EPIPE || errno === ERRNO.ECONNRESET) throw new VhostUserError(HUNG_UP);
    if (errno !== ERRNO.EAGAIN) throw new VhostUserError(`cannot be reached: ${errnoName(errno)}`);
    if (!waitForSocket(this.#fd, write, this.#deadline - performance.now()))
      throw new VhostUserError(`did not answer within ${this.#allowedMs / 1000} s`);
  }
}
