/** madvise(2): what the host is told about guest RAM. */
import { dlopen } from 'bun:ffi';
import { asPointer, type HostPointer } from './libc.ts';

const MADV_DONTNEED = 4;
const MADV_REMOVE = 9;
const MADV_HUGEPAGE = 14;

function bind() {
  return dlopen('libc.so.6', {
    // int madvise(void *addr, size_t length, int advice)
    madvise: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  }).symbols;
}

let bound: ReturnType<typeof bind> | undefined;

/**
 * The pages of [host, host + bytes), whole ones, read as zeroes afterwards, or as the file that they are private
 * copies of. Advice: where the host does not take it, as with pieces of huge pages, nothing happens.
 * SAFETY: the caller has checked that the range is guest RAM.
 */
export function releaseMemory(host: number, bytes: number): void {
  advise(host, bytes, MADV_DONTNEED);
}

/** The same for a shared mapping of memory, of which the pages themselves go, for whoever else has them mapped too. */
export function releaseSharedMemory(host: number, bytes: number): void {
  advise(host, bytes, MADV_REMOVE);
}

function advise(host: number, bytes: number, advice: number): void {
  bound ??= bind();
  bound.madvise(asPointer(host as HostPointer), bytes, advice);
}

/**
 * Lets the host back [host, host + bytes) with transparent huge pages. Advice: a host that has none, or where it is
 * switched off, does as before.
 */
export function adviseHugePages(host: HostPointer, bytes: number): void {
  bound ??= bind();
  bound.madvise(asPointer(host), bytes, MADV_HUGEPAGE);
}
