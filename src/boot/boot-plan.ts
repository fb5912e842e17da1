/** What a boot protocol asks of the machine: bytes to write, file ranges to load, registers of the BSP. */
import type { GuestAddress } from '../machine/address.ts';

export type BootProtocol = 'linux' | 'bzimage' | 'pvh' | 'multiboot';

/** Bytes that Volt made itself. */
export interface MemoryWrite {
  /** Names the structure in `volt inspect` and its dump files: lower case and hyphens. */
  readonly name: string;
  readonly address: GuestAddress;
  readonly bytes: Uint8Array;
}

/** A range of the kernel or initrd file that goes to guest memory as it is. */
export interface FileLoad {
  readonly name: string;
  readonly file: 'kernel' | 'initrd';
  readonly fileOffset: number;
  readonly fileBytes: number;
  readonly address: GuestAddress;
  /** Bytes that belong to it in memory, at least `fileBytes`; the rest (.bss, decompression space) starts as zero. */
  readonly memoryBytes: number;
  /**
   * Where those of `fileBytes` lie that are zero, as memory is before: they need not be read. Ascending and apart.
   */
  readonly zeroes?: readonly LoadRange[];
}

/** Offsets from the start of a load; `end` is the first byte behind. */
export interface LoadRange {
  readonly start: number;
  readonly end: number;
}

/** One segment register as the CPU caches it. Fields as in a descriptor. (SDM 3A §3.4.5) */
export interface SegmentState {
  readonly selector: number;
  readonly base: number;
  readonly limit: number;
  readonly type: number;
  readonly dpl: number;
  readonly present: 0 | 1;
  readonly s: 0 | 1;
  readonly db: 0 | 1;
  readonly l: 0 | 1;
  readonly g: 0 | 1;
}

/** Registers with which the BSP executes its first instruction. General registers not named are 0. */
export interface EntryState {
  readonly mode: 'long' | 'protected';
  readonly rip: number;
  readonly rsp: number;
  readonly rax: number;
  readonly rbx: number;
  readonly rsi: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  readonly gdt: { readonly base: GuestAddress; readonly limit: number };
  readonly code: SegmentState;
  readonly data: SegmentState;
  readonly task: SegmentState;
}

export interface BootPlan {
  readonly protocol: BootProtocol;
  /** One phrase for people: what was recognised. */
  readonly summary: string;
  readonly entry: EntryState;
  readonly writes: readonly MemoryWrite[];
  readonly loads: readonly FileLoad[];
  /** What the kernel asks for in vain, a sentence each. */
  readonly warnings?: readonly string[];
}
