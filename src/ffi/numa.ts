/** The host's NUMA nodes and the memory policy of mappings. (mbind(2)) */
import { readFileSync } from 'node:fs';
import { parseCpuList } from '../machine/cpu-list.ts';
import { addressOf, checked, libc, type HostPointer } from './libc.ts';

/** (asm/unistd_64.h; glibc has no mbind, only libnuma) */
const SYS_MBIND = 237;
/** MPOL_*: with the node full, `preferred` uses other nodes and `bind` fails. (set_mempolicy(2)) */
export const MEMORY_POLICY = { preferred: 1, bind: 2 } as const;
const MASK_WORDS = 16;

/** Numbers of the host's nodes with memory, ascending; `[0]` on a host without NUMA. */
export function hostNodes(): readonly number[] {
  try {
    return parseCpuList(readFileSync('/sys/devices/system/node/has_memory', 'utf8').trim()) ?? [0];
  } catch {
    return [0];
  }
}

/**
 * Makes the host allocate the pages of [address, address + bytes) from `node`; pages touched before stay
 * where they are. Both must be page-aligned. Throws SyscallError.
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
  // SAFETY: changes only the memory policy of the caller's own mapping; the kernel reads `mask` during the
  // call.
  checked(
    Number(libc.syscall(SYS_MBIND, address, bytes, policy, maskAddress, MASK_WORDS * 64, 0)),
    `mbind to host node ${node}`,
  );
}
