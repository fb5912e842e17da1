/**
 * Decodes a saved vCPU: registers, mode, events, MSRs, state components. Pure. Values of 64 bits are hexadecimal
 * strings, because JSON's numbers lose their low bits.
 */
import { hex, viewOf } from '../../binary/bytes.ts';
import { XSAVE_COMPONENTS } from '../../cpuid/feature-names.ts';
import { DTABLE, REGS, SEGMENT, SREGS, VCPU_EVENTS } from '../../kvm/abi.ts';
import { msrName } from '../../kvm/msr-names.ts';
import { savedMsrs } from '../../kvm/saved-msrs.ts';
import { DEBUG_REGS, XCR, XCRS } from '../../kvm/state-abi.ts';
import { mpStateName } from '../../smp/vcpu-state.ts';
import { describeLapic, type LapicDescription } from './describe-interrupts.ts';
import type { SavedVcpu } from './machine-state.ts';

export interface SegmentDescription {
  readonly selector: number;
  readonly base: string;
  readonly limit: number;
  /** `code`, `data`, `system`, or `unusable`. */
  readonly kind: string;
  readonly dpl: number;
}

export interface VcpuDescription {
  readonly index: number;
  readonly apicId: number;
  readonly parked: boolean;
  readonly mpState: string;
  /** `64-bit long mode`, …; and how many levels of page tables it walks, 0 without paging. */
  readonly mode: string;
  readonly pagingLevels: number;
  readonly registers: Readonly<Record<string, string>>;
  /** Names of the flags in RFLAGS, and of the bits in the control registers. */
  readonly flags: readonly string[];
  readonly control: Readonly<Record<string, string>>;
  readonly controlBits: Readonly<Record<string, readonly string[]>>;
  readonly segments: Readonly<Record<string, SegmentDescription>>;
  readonly tables: Readonly<Record<'gdt' | 'idt', { readonly base: string; readonly limit: number }>>;
  readonly lapic: LapicDescription;
  /** What waits to be delivered, in words; empty as a rule. */
  readonly events: readonly string[];
  readonly msrs: readonly { readonly index: number; readonly name: string; readonly value: string }[];
  readonly fpu: {
    readonly bytes: number;
    /** State components that are not in their initial state, by name. */
    readonly components: readonly string[];
    readonly xcr0: string | undefined;
  };
  readonly debug: Readonly<Record<string, string>> | undefined;
  readonly tscKhz: number;
  /** Bytes of the state of a guest of this guest; undefined: none. */
  readonly nestedBytes: number | undefined;
}

const GENERAL = [
  ...(['rip', 'rsp', 'rflags', 'rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
];
const CONTROL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer'] as const;
const SEGMENTS = ['cs', 'ss', 'ds', 'es', 'fs', 'gs', 'tr', 'ldt'] as const;

/** Bit numbers by name. (Intel SDM 3A §2.3, §2.5, §2.2.1; AMD APM 2 §3.1) */
const RFLAGS = { CF: 0, PF: 2, AF: 4, ZF: 6, SF: 7, TF: 8, IF: 9, DF: 10, OF: 11, NT: 14, RF: 16, VM: 17, AC: 18, VIF: 19, VIP: 20, ID: 21 }; // prettier-ignore
const CR0 = { PE: 0, MP: 1, EM: 2, TS: 3, ET: 4, NE: 5, WP: 16, AM: 18, NW: 29, CD: 30, PG: 31 };
const CR4 = { VME: 0, PVI: 1, TSD: 2, DE: 3, PSE: 4, PAE: 5, MCE: 6, PGE: 7, PCE: 8, OSFXSR: 9, OSXMMEXCPT: 10, UMIP: 11, LA57: 12, VMXE: 13, SMXE: 14, FSGSBASE: 16, PCIDE: 17, OSXSAVE: 18, KL: 19, SMEP: 20, SMAP: 21, PKE: 22, CET: 23, PKS: 24, UINTR: 25, LAM_SUP: 28, FRED: 32 }; // prettier-ignore
const EFER = { SCE: 0, LME: 8, LMA: 10, NXE: 11, SVME: 12, LMSLE: 13, FFXSR: 14, TCE: 15, AIBRSE: 21 };

/** The bits of `value` that are set, by name; the others that are set by number. */
function bitNames(value: bigint, names: Readonly<Record<string, number>>, ignored = 0n): string[] {
  const byBit = new Map(Object.entries(names).map(([name, bit]) => [bit, name]));
  return Array.from({ length: 64 }, (_, bit) => bit)
    .filter((bit) => (((value & ~ignored) >> BigInt(bit)) & 1n) !== 0n)
    .map((bit) => byBit.get(bit) ?? `bit${bit}`);
}

export function describeVcpu(vcpu: SavedVcpu): VcpuDescription {
  const [regs, sregs] = [viewOf(vcpu.regs), viewOf(vcpu.sregs)];
  const u64 = (view: DataView, at: number) => view.getBigUint64(at, true);
  const control = Object.fromEntries(CONTROL.map((name) => [name, u64(sregs, SREGS[name])]));
  const rflags = u64(regs, REGS.rflags);
  const cs = SREGS.cs;
  const mode = describeMode({
    ...{ cr0: control['cr0']!, cr4: control['cr4']!, efer: control['efer']!, rflags },
    long: sregs.getUint8(cs + SEGMENT.l) !== 0,
    wide: sregs.getUint8(cs + SEGMENT.db) !== 0,
  });
  const table = (at: number) => ({
    base: hex(u64(sregs, at + DTABLE.base)),
    limit: sregs.getUint16(at + DTABLE.limit, true),
  });
  return {
    index: vcpu.index,
    apicId: vcpu.apicId,
    parked: vcpu.parked,
    mpState: mpStateName(vcpu.mpState),
    ...mode,
    registers: Object.fromEntries(GENERAL.map((name) => [name, hex(u64(regs, REGS[name]))])),
    // Bit 1 is always set.
    flags: [...bitNames(rflags, RFLAGS, (3n << 12n) | 2n), `IOPL=${(rflags >> 12n) & 3n}`],
    control: Object.fromEntries(CONTROL.map((name) => [name, hex(control[name]!)])),
    controlBits: {
      cr0: bitNames(control['cr0']!, CR0),
      cr4: bitNames(control['cr4']!, CR4),
      efer: bitNames(control['efer']!, EFER),
    },
    segments: Object.fromEntries(SEGMENTS.map((name) => [name, describeSegment(sregs, SREGS[name])])),
    tables: { gdt: table(SREGS.gdt), idt: table(SREGS.idt) },
    lapic: describeLapic(vcpu.lapic, u64(sregs, SREGS.apicBase)),
    events: describeEvents(viewOf(vcpu.events)),
    msrs: savedMsrs(vcpu.msrs).map(({ index, value }) => ({
      index,
      name: msrName(index),
      value: hex(value),
    })),
    fpu: describeFpu(vcpu),
    debug: vcpu.debugRegs && describeDebug(viewOf(vcpu.debugRegs)),
    tscKhz: vcpu.tscKhz,
    nestedBytes: vcpu.nested?.length,
  };
}

interface ModeInputs {
  readonly cr0: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly rflags: bigint;
  /** L and D/B of the code segment. */
  readonly long: boolean;
  readonly wide: boolean;
}

/** (Intel SDM 3A §2.2, §4.1.1) */
function describeMode(inputs: ModeInputs): { mode: string; pagingLevels: number } {
  const has = (value: bigint, bit: number) => ((value >> BigInt(bit)) & 1n) !== 0n;
  const { cr0, cr4, efer, rflags, long, wide } = inputs;
  const active = has(efer, EFER.LMA);
  const levels = active ? (has(cr4, CR4.LA57) ? 5 : 4) : has(cr4, CR4.PAE) ? 3 : 2;
  const pagingLevels = has(cr0, CR0.PG) ? levels : 0;
  if (!has(cr0, CR0.PE)) return { mode: 'real mode', pagingLevels };
  if (active) return { mode: long ? '64-bit long mode' : 'compatibility mode', pagingLevels };
  if (has(rflags, RFLAGS.VM)) return { mode: 'virtual-8086 mode', pagingLevels };
  return { mode: `${wide ? 32 : 16}-bit protected mode`, pagingLevels };
}

/** Bit 3 of a code or data segment's type: code. (SDM 3A table 3-1) */
const CODE_BIT = 8;

function describeSegment(sregs: DataView, at: number): SegmentDescription {
  const byte = (field: keyof typeof SEGMENT) => sregs.getUint8(at + SEGMENT[field]);
  const kind =
    byte('unusable') !== 0
      ? 'unusable'
      : byte('s') === 0
        ? 'system'
        : (byte('type') & CODE_BIT) !== 0
          ? 'code'
          : 'data';
  return {
    selector: sregs.getUint16(at + SEGMENT.selector, true),
    base: hex(sregs.getBigUint64(at + SEGMENT.base, true)),
    limit: sregs.getUint32(at + SEGMENT.limit, true),
    kind,
    dpl: byte('dpl'),
  };
}

/** Offsets in `struct kvm_vcpu_events`. */
const EVENT = {
  exceptionInjected: 0x00,
  exceptionNumber: 0x01,
  hasErrorCode: 0x02,
  exceptionPending: 0x03,
  errorCode: 0x04,
  interruptInjected: 0x08,
  interruptNumber: 0x09,
  interruptSoft: 0x0a,
  interruptShadow: 0x0b,
  smm: 0x18,
  smiPending: 0x19,
  latchedInit: 0x1b,
  tripleFault: 0x1c,
} as const;

/** Names of exceptions by vector. (SDM 3A table 6-1) */
const EXCEPTIONS =
  '#DE #DB NMI #BP #OF #BR #UD #NM #DF - #TS #NP #SS #GP #PF - #MF #AC #MC #XM #VE #CP'.split(' ');

function describeEvents(events: DataView): string[] {
  const is = (at: number) => events.getUint8(at) !== 0;
  const lines: string[] = [];
  for (const [at, state] of [
    [EVENT.exceptionInjected, 'injected'],
    [EVENT.exceptionPending, 'pending'],
  ] as const) {
    if (!is(at)) continue;
    const vector = events.getUint8(EVENT.exceptionNumber);
    const code = is(EVENT.hasErrorCode) ? `, error code ${hex(events.getUint32(EVENT.errorCode, true))}` : '';
    lines.push(`exception ${EXCEPTIONS[vector] ?? vector} ${state}${code}`);
  }
  if (is(EVENT.interruptInjected)) {
    const soft = is(EVENT.interruptSoft) ? 'software interrupt' : 'interrupt';
    lines.push(`${soft} ${hex(events.getUint8(EVENT.interruptNumber))} injected`);
  }
  const shadow = events.getUint8(EVENT.interruptShadow);
  if ((shadow & 1) !== 0) lines.push('interrupt shadow of MOV SS');
  if ((shadow & 2) !== 0) lines.push('interrupt shadow of STI');
  if (is(VCPU_EVENTS.nmiInjected)) lines.push('NMI injected');
  const nmis = events.getUint8(VCPU_EVENTS.nmiPending);
  if (nmis > 0) lines.push(nmis === 1 ? 'NMI pending' : `${nmis} NMIs pending`);
  if (is(VCPU_EVENTS.nmiMasked)) lines.push('NMIs blocked until IRET');
  const sipi = events.getUint32(VCPU_EVENTS.sipiVector, true);
  if (sipi !== 0) lines.push(`SIPI vector ${hex(sipi)}`);
  if (is(EVENT.smm)) lines.push('in system management mode');
  if (is(EVENT.smiPending)) lines.push('SMI pending');
  if (is(EVENT.latchedInit)) lines.push('INIT latched');
  if (is(EVENT.tripleFault)) lines.push('triple fault pending');
  return lines;
}

/** XSTATE_BV, in the header behind the legacy region. (SDM 1 §13.4.2) */
const XSTATE_BV = 512;

function describeFpu({ xsave, fpu, xcrs }: SavedVcpu): VcpuDescription['fpu'] {
  const used = xsave ? viewOf(xsave).getBigUint64(XSTATE_BV, true) : 0n;
  const names = Object.fromEntries(
    XSAVE_COMPONENTS.flatMap((name, bit) => (name === undefined ? [] : [[name, bit] as const])),
  );
  return {
    bytes: xsave?.length ?? fpu?.length ?? 0,
    components: bitNames(used, names),
    xcr0: xcrs && findXcr0(viewOf(xcrs)),
  };
}

const MAX_XCRS = Math.floor((XCRS.size - XCRS.xcrs) / XCR.size);

function findXcr0(xcrs: DataView): string | undefined {
  const count = Math.min(xcrs.getUint32(XCRS.nrXcrs, true), MAX_XCRS - 1);
  for (let i = 0; i < count; i++) {
    const at = XCRS.xcrs + i * XCR.size;
    if (xcrs.getUint32(at + XCR.xcr, true) === 0) return hex(xcrs.getBigUint64(at + XCR.value, true));
  }
  return undefined;
}

function describeDebug(debug: DataView): Record<string, string> {
  const u64 = (at: number) => hex(debug.getBigUint64(at, true));
  const addresses = [0, 1, 2, 3].map((i) => [`dr${i}`, u64(DEBUG_REGS.db + 8 * i)] as const);
  return { ...Object.fromEntries(addresses), dr6: u64(DEBUG_REGS.dr6), dr7: u64(DEBUG_REGS.dr7) };
}
