/**
 * Guest RAM whose pages another process supplies when they are first touched. It listens on a Unix socket, and
 * gets the regions and the userfaultfd when Volt connects.
 *
 * Volt keeps its copy of the descriptor: if the handler ends, whoever touches a page that it has not supplied
 * waits for ever, instead of finding zeroes. It keeps the connection too, whose end says that the handler is gone.
 */
import type { Socket } from 'bun';
import { ERRNO, errnoName, SyscallError } from '../ffi/errno.ts';
import { duplicateFd, OwnedFd } from '../ffi/file.ts';
import { checked, lastErrno, libc } from '../ffi/libc.ts';
import { sendWithFds } from '../ffi/socket-fds.ts';
import { AF_UNIX } from '../ffi/socket-abi.ts';
import { socketAddress, STREAM_CLOEXEC } from '../ffi/unix-socket.ts';
import { createUserfault, registerMissing, USERFAULT_FEATURE } from '../ffi/userfault.ts';
import type { PageRun } from '../machine/page-runs.ts';
import { VoltError } from '../volt-error.ts';
import type { OpenMemorySource, SourceTarget, TargetKind, UserfaultSourceConfig } from './memory-source.ts';
import { encodeHandshake } from './userfault-handshake.ts';

export class UserfaultSource implements OpenMemorySource {
  readonly #config: UserfaultSourceConfig;
  readonly mapsFiles = false;
  #targets: readonly SourceTarget[] = [];
  #hugepages = false;
  #userfault: OwnedFd | undefined;
  #connection: Socket<undefined> | undefined;
  #disposed = false;

  constructor(config: UserfaultSourceConfig) {
    this.#config = config;
  }

  /** Registers all of RAM. Throws SyscallError, with advice for a user without the right. */
  attach(targets: readonly SourceTarget[], { hugepages, shared }: TargetKind): void {
    this.#targets = targets;
    this.#hugepages = hugepages;
    this.#userfault = createUserfault(
      // So that the handler learns which pages the balloon gives back: they are zero from then on.
      USERFAULT_FEATURE.eventRemove |
        (hugepages ? USERFAULT_FEATURE.missingHugetlb : 0) |
        (shared && !hugepages ? USERFAULT_FEATURE.missingShmem : 0),
    );
    for (const { host, bytes } of targets) registerMissing(this.#userfault.fd, host, bytes);
  }

  /** Connects to the handler. Throws VoltError 'host'. */
  load(): void {
    const { path } = this.#config;
    const address = socketAddress(path);
    if (!address)
      throw new VoltError('usage', `Cannot reach the memory handler at ${path}: the path is too long`);
    using socket = new OwnedFd(checked(libc.socket(AF_UNIX, STREAM_CLOEXEC, 0), 'socket'));
    // SAFETY: `address` outlives the call, which only reads it.
    if (libc.connect(socket.fd, address, address.length) < 0) throw connectError(path, lastErrno());
    const message = encodeHandshake(this.#targets, this.#hugepages);
    const sent = sendWithFds(socket.fd, message, [this.#userfault!.fd]);
    if (sent !== message.length)
      throw new VoltError(
        'host',
        `Cannot hand the memory to ${path}: ${sent < 0 ? errnoName(-sent) : 'it was cut short'}`,
      );
    this.#watch(duplicateFd(socket.fd).fd);
  }

  /** A page that has not come is not zero: reading it makes the handler supply it. */
  untouchedPages(offset: number, bytes: number): readonly PageRun[] {
    return [[offset, bytes]];
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#connection?.end();
    this.#userfault?.close();
  }

  #watch(fd: number): void {
    const { path, onHandlerGone } = this.#config;
    const gone = () => {
      if (this.#disposed) return;
      this.#disposed = true;
      onHandlerGone?.(
        `the memory handler at ${path} has closed its connection; if it has ended, the guest stops at the first page that it did not supply`,
      );
    };
    // bun-types declare the option `fd` but not in the signatures of connect.
    const options = {
      fd,
      socket: {
        open: (socket: Socket<undefined>) => {
          socket.unref();
          this.#connection = socket;
          if (this.#disposed) socket.end();
        },
        data: () => {},
        close: gone,
      },
    } as unknown as Bun.UnixSocketOptions<undefined>;
    void Bun.connect(options).catch(gone);
  }
}

function connectError(path: string, errno: number): VoltError {
  const advice = errno === ERRNO.ENOENT || errno === ERRNO.ECONNREFUSED ? '; start the handler first' : '';
  return new VoltError('host', `Cannot reach the memory handler at ${path}: ${errnoName(errno)}${advice}`, {
    cause: new SyscallError('connect', errno),
  });
}
