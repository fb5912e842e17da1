/** Result of planning a boot: bytes to write, file ranges to load, and the BSP's registers at entry. */
import type { GuestAddress } from '../machine/address.ts';

export type BootProtocol = 'linux' | 'bzimage' | 'pvh' | 'multiboot';

/** A structure that Volt builds. */
export interface MemoryWrite {
  /** Name in `volt inspect` and of its dump file: lower case and hyphens. */
  readonly name: string;
  readonly address: GuestAddress;
  readonly bytes: Uint8Array;
}

/** A range of the kernel or initrd file that is copied to guest memory. */
export interface FileLoad {
  readonly name: string;
  readonly file: 'kernel' | 'initrd';
  readonly fileOffset: number;
  readonly fileBytes: number;
  readonly address: GuestAddress;
  /** Size in memory, at least `fileBytes`; the rest (.bss, decompression space) is zero at entry. */
  readonly memoryBytes: number;
  /**
   * Ranges of `fileBytes` that are zero. They are not read, because memory is zero already. Ascending,
   * disjoint.
   */
  readonly zeroes?: readonly LoadRange[];
}

/** Offsets from the start of a load; `end` is exclusive. */
export interface LoadRange {
  readonly start: number;
  readonly end: number;
}

/** A segment register with its hidden part; fields as in a descriptor. (Intel SDM 3A §3.4.5) */
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

/** The BSP's registers at entry. General purpose registers that are not listed are 0. */
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
  /** What was recognised, as a phrase for people. */
  readonly summary: string;
  readonly entry: EntryState;
  readonly writes: readonly MemoryWrite[];
  readonly loads: readonly FileLoad[];
  /** Requests of the kernel that Volt does not fulfil, a sentence each. */
  readonly warnings?: readonly string[];
}
