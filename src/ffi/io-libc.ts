/**
 * The C functions that device workers use. Separate from libc.ts and bound on first use, because binding
 * takes time that a guest without devices should not spend.
 */
import { dlopen, FFIType } from 'bun:ffi';

function bind() {
  return dlopen('libc.so.6', {
    // int eventfd(unsigned int initval, int flags)
    eventfd: { args: ['u32', 'i32'], returns: 'i32' },
    // int epoll_create1(int flags)
    epoll_create1: { args: ['i32'], returns: 'i32' },
    // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
    epoll_ctl: { args: ['i32', 'i32', 'i32', 'ptr'], returns: 'i32' },
    // int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
    epoll_wait: { args: ['i32', 'ptr', 'i32', 'i32'], returns: 'i32' },
    // ssize_t read(int fd, void *buf, size_t count)
    read: { args: ['i32', 'ptr', 'u64'], returns: FFIType.i64_fast },
    // ssize_t write(int fd, const void *buf, size_t count)
    write: { args: ['i32', 'ptr', 'u64'], returns: FFIType.i64_fast },
    // ssize_t preadv(int fd, const struct iovec *iov, int iovcnt, off_t offset)
    preadv: { args: ['i32', 'ptr', 'i32', 'i64'], returns: FFIType.i64_fast },
    // ssize_t pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset)
    pwritev: { args: ['i32', 'ptr', 'i32', 'i64'], returns: FFIType.i64_fast },
    // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
    pread: { args: ['i32', 'ptr', 'u64', 'i64'], returns: FFIType.i64_fast },
    // ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
    pwrite: { args: ['i32', 'ptr', 'u64', 'i64'], returns: FFIType.i64_fast },
    // int fdatasync(int fd)
    fdatasync: { args: ['i32'], returns: 'i32' },
    // int fallocate(int fd, int mode, off_t offset, off_t len)
    fallocate: { args: ['i32', 'i32', 'i64', 'i64'], returns: 'i32' },
    // int ftruncate(int fd, off_t length)
    ftruncate: { args: ['i32', 'i64'], returns: 'i32' },
    // int flock(int fd, int operation)
    flock: { args: ['i32', 'i32'], returns: 'i32' },
    // ssize_t getrandom(void *buf, size_t buflen, unsigned int flags)
    getrandom: { args: ['ptr', 'u64', 'u32'], returns: FFIType.i64_fast },
    // long syscall(long number, …), for io_uring, which glibc has no functions for
    syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'ptr', 'u64'], returns: FFIType.i64_fast },
  }).symbols;
}

let bound: ReturnType<typeof bind> | undefined;

export type IoLibc = ReturnType<typeof bind>;

/** Binds the functions on the first call of each thread. */
export function ioLibc(): IoLibc {
  return (bound ??= bind());
}
