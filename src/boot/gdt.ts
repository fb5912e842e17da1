/** The boot GDT and the matching segment registers. (Intel SDM 3A §3.4.5, figure 3-8) */
import { viewOf } from '../binary/bytes.ts';
import type { SegmentState } from './boot-plan.ts';

/** __BOOT_CS and __BOOT_DS of the Linux boot protocol, and a task state segment. */
export const SELECTOR = { code: 0x10, data: 0x18, task: 0x20 } as const;

/**
 * The selectors of QEMU's Multiboot loader, and of nearly every small kernel's own GDT. The specification leaves them
 * open, but kernels load their GDT and go on with the CS they have: xv6 faults at its first IRET after another.
 */
const MULTIBOOT_SELECTOR = { code: 0x08, data: 0x10, task: 0x18 } as const;

/** A GDT for each entry: 64-bit, 32-bit, 32-bit with the selectors of Multiboot kernels. */
export type GdtKind = 'long' | 'protected' | 'multiboot';

/** Access byte: present, S, type. */
const ACCESS = { code: 0x9b, data: 0x93, task: 0x8b } as const;

/** Flags nibble: G (bit 3), D/B (bit 2), L (bit 1). */
const FLAGS = { long: 0b1010, protected: 0b1100, task: 0b0000 } as const;

interface Descriptor {
  readonly access: number;
  readonly flags: number;
  /** 20 bits; in units of 4 KiB if G is set. */
  readonly limit: number;
}

const PROTECTED = {
  code: { access: ACCESS.code, flags: FLAGS.protected, limit: 0xf_ffff },
  data: { access: ACCESS.data, flags: FLAGS.protected, limit: 0xf_ffff },
  task: { access: ACCESS.task, flags: FLAGS.task, limit: 0x67 },
} as const;

const DESCRIPTORS = {
  long: {
    code: { access: ACCESS.code, flags: FLAGS.long, limit: 0xf_ffff },
    data: { access: ACCESS.data, flags: FLAGS.protected, limit: 0xf_ffff },
    task: { access: ACCESS.task, flags: FLAGS.task, limit: 0x67 },
  },
  protected: PROTECTED,
  multiboot: PROTECTED,
} as const satisfies Record<GdtKind, Record<'code' | 'data' | 'task', Descriptor>>;

const SELECTORS = { long: SELECTOR, protected: SELECTOR, multiboot: MULTIBOOT_SELECTOR } as const;

/** Null descriptors, then code, data and task, all with base 0: five descriptors, or four for Multiboot. */
export function buildGdt(kind: GdtKind): Uint8Array {
  const selectors = SELECTORS[kind];
  const gdt = new Uint8Array(selectors.task + 8);
  const view = viewOf(gdt);
  for (const segment of ['code', 'data', 'task'] as const) {
    const { access, flags, limit } = DESCRIPTORS[kind][segment];
    view.setUint16(selectors[segment], limit & 0xffff, true);
    view.setUint8(selectors[segment] + 5, access);
    view.setUint8(selectors[segment] + 6, (flags << 4) | (limit >> 16));
  }
  return gdt;
}

export function segmentState(kind: GdtKind, segment: 'code' | 'data' | 'task'): SegmentState {
  const { access, flags, limit } = DESCRIPTORS[kind][segment];
  const bit = (value: number, n: number) => ((value >> n) & 1) as 0 | 1;
  return {
    selector: SELECTORS[kind][segment],
    base: 0,
    limit: bit(flags, 3) ? limit * 4096 + 4095 : limit,
    type: access & 0xf,
    s: bit(access, 4),
    dpl: (access >> 5) & 3,
    present: bit(access, 7),
    l: bit(flags, 1),
    db: bit(flags, 2),
    g: bit(flags, 3),
  };
}
