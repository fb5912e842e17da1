/** Sockets between a pool's processes and their callers, which wait by blocking. (unix(7), fcntl(2), prctl(2)) */
import { OPEN } from './file.ts';
import { asPointer, checked, lastErrno, libc, type HostPointer } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { SHUT, SOCK } from './socket-abi.ts';
import { ERRNO } from './errno.ts';

const F_GETFD = 1;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const FD_CLOEXEC = 1;
const O_ASYNC = 0o20000;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
/** (asm/unistd_64.h) */
const SYS_GETPPID = 110;

/** Makes calls on the socket wait, for all processes that have it. */
export function makeBlocking(fd: number): void {
  const flags = checked(libc.fcntl(fd, F_GETFL, 0), 'fcntl(F_GETFL)');
  checked(libc.fcntl(fd, F_SETFL, flags & ~OPEN.nonBlocking), 'fcntl(F_SETFL)');
}

/**
 * Blocks until a connection comes: a non-blocking descriptor that the caller owns. Of several processes that wait
 * for the same socket one wakes up. undefined: the listener was shut down. Throws SyscallError.
 */
export function awaitConnection(listener: number): number | undefined {
  for (;;) {
    const fd = netLibc().accept4(listener, null, null, SOCK.nonBlocking | SOCK.closeOnExec);
    if (fd >= 0) return fd;
    const errno = lastErrno();
    if (errno === ERRNO.EINVAL) return undefined;
    if (errno !== ERRNO.EINTR && errno !== ERRNO.ECONNABORTED) checked(fd, 'accept4');
  }
}

/** Wakes up all processes that wait for connections; later ones fail. */
export function shutDownListener(fd: number): void {
  netLibc().shutdown(fd, SHUT.readWrite);
}

/** Ends this process by SIGKILL when the other end of the socket is closed, as when its process is killed. */
export function endWithPeer(fd: number): void {
  checked(libc.fcntl(fd, F_SETOWN, libc.getpid()), 'fcntl(F_SETOWN)');
  checked(libc.fcntl(fd, F_SETSIG, SIGKILL), 'fcntl(F_SETSIG)');
  const flags = checked(libc.fcntl(fd, F_GETFL, 0), 'fcntl(F_GETFL)');
  checked(libc.fcntl(fd, F_SETFL, flags | O_ASYNC), 'fcntl(F_SETFL)');
}

/** Ends this process by SIGKILL when the one that started it ends, until `outliveParent`. */
export function endWithParent(): void {
  setParentDeathSignal(SIGKILL);
}

export function outliveParent(): void {
  setParentDeathSignal(0);
}

export function parentId(): number {
  return Number(libc.syscall(SYS_GETPPID, 0, 0, 0, 0, 0, 0));
}

export function isOpen(fd: number): boolean {
  return libc.fcntl(fd, F_GETFD, 0) >= 0;
}

/** No program that this process executes inherits the descriptor. */
export function closeOnExecute(fd: number): void {
  checked(libc.fcntl(fd, F_SETFD, FD_CLOEXEC), 'fcntl(F_SETFD)');
}

function setParentDeathSignal(signal: number): void {
  // SAFETY: the argument is a number; the kernel does not dereference it.
  checked(
    libc.prctl(PR_SET_PDEATHSIG, asPointer(signal as HostPointer | 0), 0, 0, 0),
    'prctl(PR_SET_PDEATHSIG)',
  );
}
