/**
 * Threads that run Volt's own machine code instead of JavaScript. A Worker costs milliseconds and megabytes,
 * such a thread one stack page. (pthread_create(3))
 */
import { dlopen, read } from 'bun:ffi';
import { SyscallError } from './errno.ts';
import { addressOf, arrayBufferAt, checked, libc, type HostPointer } from './libc.ts';
import { MAP, mapMemory, PROT } from './mapping.ts';

function bind() {
  return dlopen('libc.so.6', {
    // int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void
    // *argument)
    pthread_create: { args: ['ptr', 'ptr', 'u64', 'u64'], returns: 'i32' },
    // int pthread_detach(pthread_t thread)
    pthread_detach: { args: ['u64'], returns: 'i32' },
  }).symbols;
}

let bound: ReturnType<typeof bind> | undefined;

/** Maps a copy of `code` as read-only and executable for the life of the process. Throws SyscallError. */
export function mapCode(code: Uint8Array): HostPointer {
  const address = mapMemory({
    bytes: code.length,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: "a thread's machine code",
  });
  // SAFETY: just mapped, never unmapped, and not written after mprotect below.
  new Uint8Array(arrayBufferAt(address, code.length)).set(code);
  checked(libc.mprotect(address, code.length, PROT.read | PROT.execute), 'mprotect');
  return address;
}

/** Starts a detached thread at `code`, with `argument` in RDI; it ends by returning. Throws SyscallError. */
export function startThread(code: HostPointer, argument: HostPointer): void {
  bound ??= bind();
  const handle = new Uint8Array(8);
  // SAFETY: `code` comes from `mapCode`; the memory at `argument` must outlive the thread.
  const error = bound.pthread_create(handle, null, code, argument);
  if (error !== 0) throw new SyscallError('pthread_create', error, 'raise ulimit -u, or use fewer --cpus');
  bound.pthread_detach(read.u64(addressOf(handle) as number as never, 0) as never);
}
