/**
 * The C functions for network devices and sockets. Separate from libc.ts and bound on first use, because
 * binding takes time that a guest without such devices should not spend.
 */
import { dlopen, FFIType } from 'bun:ffi';

function bind() {
  return dlopen('libc.so.6', {
    // ssize_t readv(int fd, const struct iovec *iov, int iovcnt)
    readv: { args: ['i32', 'ptr', 'i32'], returns: FFIType.i64_fast },
    // ssize_t writev(int fd, const struct iovec *iov, int iovcnt)
    writev: { args: ['i32', 'ptr', 'i32'], returns: FFIType.i64_fast },
    // ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags)
    sendmsg: { args: ['i32', 'ptr', 'i32'], returns: FFIType.i64_fast },
    // ssize_t send(int sockfd, const void *buf, size_t len, int flags)
    send: { args: ['i32', 'ptr', 'u64', 'i32'], returns: FFIType.i64_fast },
    // ssize_t recv(int sockfd, void *buf, size_t len, int flags)
    recv: { args: ['i32', 'ptr', 'u64', 'i32'], returns: FFIType.i64_fast },
    // int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen)
    bind: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
    // int listen(int sockfd, int backlog)
    listen: { args: ['i32', 'i32'], returns: 'i32' },
    // int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen)
    getsockname: { args: ['i32', 'ptr', 'ptr'], returns: 'i32' },
    // int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, int flags)
    accept4: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
    // int shutdown(int sockfd, int how)
    shutdown: { args: ['i32', 'i32'], returns: 'i32' },
    // int socketpair(int domain, int type, int protocol, int sv[2])
    socketpair: { args: ['i32', 'i32', 'i32', 'ptr'], returns: 'i32' },
    // void *memcpy(void *dest, const void *src, size_t n)
    memcpy: { args: ['ptr', 'ptr', 'u64'], returns: 'ptr' },
  }).symbols;
}

let bound: ReturnType<typeof bind> | undefined;

/** Binds the functions on the first call of each thread. */
export function netLibc(): ReturnType<typeof bind> {
  return (bound ??= bind());
}
