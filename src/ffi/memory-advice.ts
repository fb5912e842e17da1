/** madvise(2) on guest RAM. */
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
 * MADV_DONTNEED: frees the whole pages of [host, host + bytes), which then read as zeroes, or as the file for
 * a private file mapping. Errors are ignored, such as for parts of huge pages.
 * SAFETY: the caller has checked that the range is guest RAM.
 */
export function releaseMemory(host: number, bytes: number): void {
  advise(host, bytes, MADV_DONTNEED);
}

/** MADV_REMOVE: the same for shared memory, where other processes lose the pages too. SAFETY: as above. */
export function releaseSharedMemory(host: number, bytes: number): void {
  advise(host, bytes, MADV_REMOVE);
}

function advise(host: number, bytes: number, advice: number): void {
  bound ??= bind();
  bound.madvise(asPointer(host as HostPointer), bytes, advice);
}

/**
 * MADV_HUGEPAGE: lets the host back [host, host + bytes) with transparent huge pages. Errors are ignored.
 * SAFETY: the caller owns the range.
 */
export function adviseHugePages(host: HostPointer, bytes: number): void {
  bound ??= bind();
  bound.madvise(asPointer(host), bytes, MADV_HUGEPAGE);
}
