/**
 * Socket numbers and structures of x86-64 Linux. (asm-generic/socket.h, linux/un.h, bits/socket.h of glibc)
 */

export const AF_UNIX = 1;
export const AF_INET = 2;

export const SOCK = { stream: 0x1, datagram: 0x2, nonBlocking: 0x800, closeOnExec: 0x8_0000 } as const;
export const SOL_SOCKET = 1;
export const SO_PEERCRED = 17;
export const SCM_RIGHTS = 1;
export const MSG = {
  peek: 0x2,
  controlTruncated: 0x8,
  doNotWait: 0x40,
  noSignal: 0x4000,
  closeOnExec: 0x4000_0000,
} as const;
export const SHUT = { write: 1, readWrite: 2 } as const;

/** `struct sockaddr_un`: the path ends with a NUL. */
export const SOCKADDR_UN = { family: 0x00, path: 0x02, size: 110 } as const;
/** `struct ucred`, in words of 32 bits: pid, uid, gid. */
export const UCRED = { pid: 0, uid: 1, words: 3 } as const;
/** `struct msghdr`, `struct iovec` and `struct cmsghdr`. */
export const MSGHDR = {
  name: 0,
  iovecs: 16,
  iovecCount: 24,
  control: 32,
  controlBytes: 40,
  flags: 48,
  size: 56,
} as const;
export const IOVEC = { base: 0, length: 8, size: 16 } as const;
export const CMSGHDR = { length: 0, level: 8, type: 12, data: 16 } as const;
