/**
 * The C functions that every guest needs, and conversions between addresses and arrays. Bound when this
 * module loads. Functions for devices are in io-libc.ts and net-libc.ts, and single ones in the modules that
 * use them, bound on first use. Only ffi/ imports bun:ffi (scripts/check-layers.ts).
 */
import { dlopen, FFIType, ptr, read, toArrayBuffer, type Pointer } from 'bun:ffi';
import { SyscallError } from './errno.ts';

/** An address in this process, never 0. */
declare const hostPointerBrand: unique symbol;
export type HostPointer = number & { readonly [hostPointerBrand]: true };

const { symbols: libc } = dlopen('libc.so.6', {
  // int *__errno_location(void)
  __errno_location: { args: [], returns: 'ptr' },
  // int open(const char *path, int flags, mode_t mode)
  open: { args: ['ptr', 'i32', 'u32'], returns: 'i32' },
  // int close(int fd)
  close: { args: ['i32'], returns: 'i32' },
  // int dup2(int oldfd, int newfd)
  dup2: { args: ['i32', 'i32'], returns: 'i32' },
  // int fcntl(int fd, int cmd, ...)
  fcntl: { args: ['i32', 'i32', 'i64'], returns: 'i32' },
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  pread: { args: ['i32', 'ptr', 'u64', 'i64'], returns: FFIType.i64_fast },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { args: ['i32', 'ptr', 'u64'], returns: FFIType.i64_fast },
  // off_t lseek(int fd, off_t offset, int whence)
  lseek: { args: ['i32', 'i64', 'i32'], returns: FFIType.i64_fast },
  // int ioctl(int fd, unsigned long request, void *argument)
  ioctl: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: { args: ['ptr', 'u64', 'i32', 'i32', 'i32', 'i64'], returns: 'ptr' },
  // int munmap(void *addr, size_t length)
  munmap: { args: ['ptr', 'u64'], returns: 'i32' },
  // int mprotect(void *addr, size_t len, int prot)
  mprotect: { args: ['u64', 'u64', 'i32'], returns: 'i32' },
  // long syscall(long number, ...)
  syscall: { args: ['i64', 'u64', 'u64', 'u64', 'u64', 'u64', 'u64'], returns: FFIType.i64_fast },
  // int poll(struct pollfd *fds, nfds_t nfds, int timeout)
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  // int sigaction(int signum, const struct sigaction *act, struct sigaction *oldact)
  sigaction: { args: ['i32', 'ptr', 'ptr'], returns: 'i32' },
  // pid_t getpid(void)
  getpid: { args: [], returns: 'i32' },
  // pid_t gettid(void)
  gettid: { args: [], returns: 'i32' },
  // int tgkill(pid_t tgid, pid_t tid, int sig)
  tgkill: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  // int prctl(int option, unsigned long arg2, …)
  prctl: { args: ['i32', 'ptr', 'u64', 'u64', 'u64'], returns: 'i32' },
  // int sched_setaffinity(pid_t pid, size_t cpusetsize, const cpu_set_t *mask)
  sched_setaffinity: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
  // int sched_getaffinity(pid_t pid, size_t cpusetsize, cpu_set_t *mask)
  sched_getaffinity: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
  // int setpriority(int which, id_t who, int prio)
  setpriority: { args: ['i32', 'u32', 'i32'], returns: 'i32' },
  // int getrlimit(int resource, struct rlimit *rlim)
  getrlimit: { args: ['i32', 'ptr'], returns: 'i32' },
  // int setrlimit(int resource, const struct rlimit *rlim)
  setrlimit: { args: ['i32', 'ptr'], returns: 'i32' },
  // int socket(int domain, int type, int protocol)
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  // int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen)
  connect: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  // int usleep(useconds_t usec)
  usleep: { args: ['u32'], returns: 'i32' },
  // int tcgetattr(int fd, struct termios *termios_p)
  tcgetattr: { args: ['i32', 'ptr'], returns: 'i32' },
  // int tcsetattr(int fd, int actions, const struct termios *termios_p)
  tcsetattr: { args: ['i32', 'i32', 'ptr'], returns: 'i32' },
  // void cfmakeraw(struct termios *termios_p)
  cfmakeraw: { args: ['ptr'], returns: 'void' },
  // pid_t tcgetpgrp(int fd)
  tcgetpgrp: { args: ['i32'], returns: 'i32' },
  // pid_t getpgrp(void)
  getpgrp: { args: [], returns: 'i32' },
  // int isatty(int fd)
  isatty: { args: ['i32'], returns: 'i32' },
  // void _exit(int status)
  _exit: { args: ['i32'], returns: 'void' },
  // void *dlsym(void *handle, const char *symbol)
  dlsym: { args: ['ptr', 'ptr'], returns: 'ptr' },
});

export { libc };

// SAFETY: glibc returns the address of this thread's errno, valid while the thread exists. Each Worker loads
// its own copy of this module. `lastErrno` must follow the failing call directly, before another call can
// overwrite errno.
const errnoPointer = libc.__errno_location() as Pointer;

/** errno of this thread's last failing call. Allocates nothing. */
export function lastErrno(): number {
  return read.i32(errnoPointer, 0);
}

/** A NUL-terminated UTF-8 copy, for `const char *` arguments. */
export function cString(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, 'utf8');
}

/**
 * An ArrayBuffer over `bytes` bytes at `address`, at most 4 GiB; nothing is copied.
 * SAFETY: the memory stays owned by its mapping, and the caller drops the buffer before that is unmapped.
 */
export function arrayBufferAt(address: HostPointer, bytes: number): ArrayBuffer {
  return toArrayBuffer(address as number as Pointer, 0, bytes);
}

/** The address of an array's first byte. SAFETY: valid only while the caller keeps the array alive. */
export function addressOf(bytes: NodeJS.TypedArray): HostPointer {
  return ptr(bytes) as number as HostPointer;
}

/** For arguments of type `ptr`; 0 is NULL. */
export function asPointer(address: HostPointer | 0): Pointer {
  return address as number as Pointer;
}

/** The address of libc's function `name`, for APIs that take a function pointer. Throws SyscallError. */
export function symbolAddress(name: string): HostPointer {
  // SAFETY: handle 0 is RTLD_DEFAULT; libc is mapped for the life of the process.
  const address = libc.dlsym(null, cString(name));
  if (!address) throw new SyscallError(`dlsym(${name})`, 0, 'this libc lacks the function');
  return address as number as HostPointer;
}

/** Returns `result` unless it is negative; then throws SyscallError for `call` with the current errno. */
export function checked(
  result: number,
  call: string,
  advice?: (errno: number) => string | undefined,
): number {
  if (result >= 0) return result;
  const errno = lastErrno();
  throw new SyscallError(call, errno, advice?.(errno));
}
