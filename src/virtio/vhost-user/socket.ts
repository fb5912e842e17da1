/** The socket of a vhost-user connection. The back-end may be slow, silent, gone or malicious. */
import { VhostUserError, type VhostLink } from './session.ts';
import { ERRNO, errnoName } from '../../ffi/errno.ts';
import { sendWithFds, shutdownSocket, waitForSocket } from '../../ffi/socket-fds.ts';
import { receiveBytes } from '../../ffi/unix-stream.ts';

export const HUNG_UP = 'hung up';

export class VhostSocket implements VhostLink {
  readonly #fd: number;
  #deadline = 0;
  #timeLimitMs = 0;

  /** `fd` is a non-blocking Unix stream socket; the caller owns it. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Limits the total time of all sends and receives until the next call. */
  setTimeLimit(ms: number): void {
    this.#timeLimitMs = ms;
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
      // Without a control buffer, the kernel closes file descriptors that accompany the bytes. (unix(7))
      const got = receiveBytes(this.#fd, target.subarray(done), target.length - done);
      if (got === 0) throw new VhostUserError(HUNG_UP);
      if (got > 0) done += got;
      else this.#failOrWait(-got, false);
    }
  }

  /** Closes the connection for good. */
  shutDown(): void {
    shutdownSocket(this.#fd);
  }

  #failOrWait(errno: number, write: boolean): void {
    if (errno === ERRNO.EINTR) return;
    if (errno === ERRNO.EPIPE || errno === ERRNO.ECONNRESET) throw new VhostUserError(HUNG_UP);
    if (errno !== ERRNO.EAGAIN) throw new VhostUserError(`cannot be reached: ${errnoName(errno)}`);
    if (!waitForSocket(this.#fd, write, this.#deadline - performance.now()))
      throw new VhostUserError(`did not answer within ${this.#timeLimitMs / 1000} s`);
  }
}
