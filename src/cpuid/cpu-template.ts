/**
 * CPU templates: masks over the CPUID table and the MSRs that KVM gives a vCPU, so that guests see the same CPU on hosts of
 * several generations. Pure. (firecracker-microvm/firecracker, docs/cpu_templates/cpu-templates.md)
 */
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { VoltError } from '../volt-error.ts';
import { findLeaf, LEAF, vendorOf, type Registers } from './leaf.ts';

/** Bits of a register: those of `filter` become those of `value`. */
export interface BitMask {
  readonly filter: bigint;
  readonly value: bigint;
}

export type CpuidRegister = keyof Registers;

interface LeafMask {
  readonly leaf: number;
  readonly subleaf: number;
  /** KVM_CPUID_FLAG_* of the entry. */
  readonly flags: number;
  readonly registers: readonly ({ readonly register: CpuidRegister } & BitMask)[];
}

export interface MsrMask extends BitMask {
  readonly index: number;
}

export interface CpuTemplate {
  /** CPUs that it is made for; undefined: any. */
  readonly hosts?: { readonly vendor: string; readonly models: readonly string[] } | undefined;
  /** KVM_CAP_* that KVM must have. */
  readonly capabilities: readonly number[];
  readonly cpuid: readonly LeafMask[];
  readonly msrs: readonly MsrMask[];
}

/** Why this host cannot have the template. */
export type TemplateMismatch = 'vendor' | 'model' | 'capability' | 'leaf' | 'msr';

export class CpuTemplateError extends VoltError {
  readonly mismatch: TemplateMismatch;
  /** The capability's or MSR's number; leaf and subleaf. */
  readonly numbers: readonly number[];

  constructor(mismatch: TemplateMismatch, found: string, numbers: readonly number[] = []) {
    super('host', `Cannot apply the CPU template: ${found}; use another template`);
    this.mismatch = mismatch;
    this.numbers = numbers;
  }
}

/** Throws CpuTemplateError if the template is not for CPUs such as the one of `host`, a table of KVM. */
export function checkTemplateHost({ hosts }: CpuTemplate, host: readonly CpuidEntry[]): void {
  if (!hosts) return;
  const vendor = vendorOf(host);
  if (vendor !== hosts.vendor)
    throw new CpuTemplateError('vendor', `this CPU is from ${vendor} (expected ${hosts.vendor})`);
  const model = modelOf(findLeaf(host, LEAF.features)?.eax ?? 0);
  if (!hosts.models.includes(model))
    throw new CpuTemplateError(
      'model',
      `this CPU has family, model and stepping ${model} (expected ${hosts.models.join(' or ')})`,
    );
}

/** The table with the template's masks. Throws CpuTemplateError for a leaf that is not there. */
export function applyCpuidTemplate({ cpuid }: CpuTemplate, host: readonly CpuidEntry[]): CpuidEntry[] {
  const table = [...host];
  for (const { leaf, subleaf, flags, registers } of cpuid) {
    const at = table.findIndex((entry) => entry.function === leaf && entry.index === subleaf);
    const entry = table[at];
    if (!entry)
      throw new CpuTemplateError('leaf', `KVM has no CPUID leaf ${hex(leaf)}, subleaf ${hex(subleaf)}`, [
        leaf,
        subleaf,
      ]);
    const masked = { ...entry, flags };
    for (const { register, ...mask } of registers)
      masked[register] = Number(applyMask(BigInt(masked[register] >>> 0), mask));
    table[at] = masked;
  }
  return table;
}

export function applyMask(value: bigint, { filter, value: wanted }: BitMask): bigint {
  return (value & ~filter) | (wanted & filter);
}

/** Family, model and stepping, the extended ones included. (Intel SDM 2A, CPUID, "Version Information") */
function modelOf(eax: number): string {
  const family = ((eax >>> 8) & 0xf) + ((eax >>> 20) & 0xff);
  const model = ((eax >>> 4) & 0xf) | ((eax >>> 12) & 0xf0);
  return `${family}/${model}/${eax & 0xf}`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
