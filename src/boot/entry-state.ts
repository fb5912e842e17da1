/** The BSP's state at entry: long mode with paging, or protected mode without. */
import { LAYOUT } from '../machine/layout.ts';
import type { EntryState, MemoryWrite } from './boot-plan.ts';
import { buildGdt, segmentState, type GdtKind } from './gdt.ts';
import { buildPageTables } from './page-tables.ts';

/** Bits of control registers and of IA32_EFER. (Intel SDM 3A §2.5, §2.2.1) */
const CR0_PE = 0x1;
const CR0_ET = 0x10;
const CR0_NE = 0x20;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;

type GeneralRegisters = Partial<Pick<EntryState, 'rax' | 'rbx' | 'rsi' | 'rsp'>> & { readonly rip: number };

/**
 * Long mode, identity page tables, flat segments. (Linux Documentation/arch/x86/boot.rst, "64-bit Boot
 * Protocol")
 */
export function longModeEntry(registers: GeneralRegisters): EntryState {
  return {
    ...entry('long', registers, 'long'),
    cr0: CR0_PG + CR0_NE + CR0_ET + CR0_PE,
    cr3: LAYOUT.pageTables.address,
    cr4: CR4_PAE,
    efer: EFER_LME + EFER_LMA,
  };
}

/** Protected mode, paging off, flat segments. (Xen docs/misc/pvh.pandoc; Multiboot 0.6.96 §3.2) */
export function protectedModeEntry(
  registers: GeneralRegisters,
  gdt: 'protected' | 'multiboot' = 'protected',
): EntryState {
  return { ...entry('protected', registers, gdt), cr0: CR0_ET + CR0_PE, cr3: 0, cr4: 0, efer: 0 };
}

function entry(mode: EntryState['mode'], registers: GeneralRegisters, gdt: GdtKind) {
  return {
    mode,
    rsp: 0,
    rax: 0,
    rbx: 0,
    rsi: 0,
    ...registers,
    gdt: { base: LAYOUT.gdt.address, limit: buildGdt(gdt).length - 1 },
    code: segmentState(gdt, 'code'),
    data: segmentState(gdt, 'data'),
    task: segmentState(gdt, 'task'),
  };
}

/** The GDT and page tables that the entry state refers to. */
export function entryTables(kind: GdtKind): MemoryWrite[] {
  const gdt = { name: 'gdt', address: LAYOUT.gdt.address, bytes: buildGdt(kind) };
  if (kind !== 'long') return [gdt];
  const address = LAYOUT.pageTables.address;
  return [gdt, { name: 'page-tables', address, bytes: buildPageTables(address) }];
}
