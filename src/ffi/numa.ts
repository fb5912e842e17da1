/** NUMA nodes of this host and memory that comes from one of them. */
import { readFileSync } from 'node:fs';
import { parseCpuList } from '../machine/cpu-list.ts';
import { addressOf, checked, libc, type HostPointer } from './libc.ts';

/** Linux x86-64 system call number; glibc leaves mbind to libnuma. */
const SYS_MBIND = 237;
/** `preferred` falls back on other nodes when the node is full, `bind` fails then. (set_mempolicy(2)) */
export const MEMORY_POLICY = { preferred: 1, bind: 2 } as const;
const MASK_WORDS = 16;

/** Numbers of the host's nodes that have memory; `[0]` where the kernel does not tell. */
export function hostNodes(): readonly number[] {
  try {
    return parseCpuList(readFileSync('/sys/devices/system/node/has_memory', 'utf8').trim()) ?? [0];
  } catch {
    return [0];
  }
}

/**
 * Has the pages of [address, address + bytes), not yet touched, come from the host's node. Both must be
 * page-aligned. Throws SyscallError.
 */
export function bindMemory(
  address: HostPointer,
  bytes: number,
  node: number,
  policy: (typeof MEMORY_POLICY)[keyof typeof MEMORY_POLICY],
): void {
  const mask = new BigUint64Array(MASK_WORDS);
  const maskAddress = addressOf(new Uint8Array(mask.buffer));
  mask[Math.floor(node / 64)] = 1n << BigInt(node % 64);
  // SAFETY: changes where pages of the caller's own mapping will come from, nothing else.
  checked(
    Number(libc.syscall(SYS_MBIND, address, bytes, policy, maskAddress, MASK_WORDS * 64, 0)),
    `mbind to host node ${node}`,
  );
}
