/** memcpy(3) between memory of ours and memory that is known by its address alone. */
import { asPointer, type HostPointer } from './libc.ts';
import { netLibc } from './net-libc.ts';

/** SAFETY: the caller has checked that [host, host + bytes) is mapped; `target` must have room from `at` on. */
export function copyFromHost(target: Uint8Array, at: number, host: number, bytes: number): void {
  netLibc().memcpy(target.subarray(at, at + bytes), asPointer(host as HostPointer), bytes);
}

/** SAFETY: as above, and it may be written. */
export function copyToHost(host: number, source: Uint8Array, at: number, bytes: number): void {
  netLibc().memcpy(asPointer(host as HostPointer), source.subarray(at, at + bytes), bytes);
}
