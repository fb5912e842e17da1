/** memcpy(3) between arrays and host addresses. */
import { asPointer, type HostPointer } from './libc.ts';
import { netLibc } from './net-libc.ts';

/**
 * Copies `bytes` bytes at `host` to `target[at]`.
 * SAFETY: the caller has checked that [host, host + bytes) is mapped and that `target` has room.
 */
export function copyFromHost(target: Uint8Array, at: number, host: number, bytes: number): void {
  netLibc().memcpy(target.subarray(at, at + bytes), asPointer(host as HostPointer), bytes);
}

/**
 * Copies `bytes` bytes from `source[at]` to `host`.
 * SAFETY: the caller has checked that [host, host + bytes) is mapped writable and that `source` has the
 * bytes.
 */
export function copyToHost(host: number, source: Uint8Array, at: number, bytes: number): void {
  netLibc().memcpy(asPointer(host as HostPointer), source.subarray(at, at + bytes), bytes);
}
