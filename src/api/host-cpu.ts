/** What this host's CPU and KVM offer a saved guest, or what is known of it without KVM. */
import { readFileSync } from 'node:fs';
import { FEATURE_REGISTERS } from '../cpuid/feature-names.ts';
import { LEAF } from '../cpuid/leaf.ts';
import { KvmSystem } from '../kvm/system.ts';
import { readStateSupport } from '../kvm/vcpu-state.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { featureKey, type HostCpu } from '../vmm/state/cpu-compatibility.ts';
import { cpuOfKvm } from '../vmm/state/cpu-of-kvm.ts';

export interface KnownHostCpu {
  readonly cpu: HostCpu;
  /** `cpuinfo`: KVM was not asked, because it does not open; it may support less. */
  readonly source: 'kvm' | 'cpuinfo';
  /** Why KVM was not asked. */
  readonly reason?: string;
}

/** Asks KVM, or reads /proc/cpuinfo where /dev/kvm does not open. */
export function readHostCpu(): KnownHostCpu {
  try {
    return { cpu: askKvm(), source: 'kvm' };
  } catch (error) {
    const text = readFileSync('/proc/cpuinfo', 'utf8');
    return { cpu: parseCpuinfo(text), source: 'cpuinfo', reason: (error as Error).message };
  }
}

function askKvm(): HostCpu {
  using system = new KvmSystem();
  using vm = system.createVm();
  vm.createInterruptControllers();
  using vcpu = vm.createVcpu(0);
  return cpuOfKvm(system, vcpu, readStateSupport(system));
}

/** Registers whose features /proc/cpuinfo has listed since Linux 4.x, if the CPU has them and they are not disabled. */
const LISTED = [
  featureKey(LEAF.features, 0, 'ecx'),
  featureKey(LEAF.features, 0, 'edx'),
  featureKey(0x7, 0, 'ebx'),
  featureKey(LEAF.amdFeatures, 0, 'ecx'),
  featureKey(LEAF.amdFeatures, 0, 'edx'),
];
/** Features of these registers that /proc/cpuinfo does not list under any condition, or by another name. */
const UNLISTED = new Set([
  'mpx',
  'fdp_excptn_only',
  'zero_fcs_fds',
  'sgx',
  'ia64',
  'osxsave',
  'avx512pf',
  'avx512er',
]);

/** The features that /proc/cpuinfo lists, and nothing of what it does not tell. */
export function parseCpuinfo(text: string): HostCpu {
  const [processor = ''] = text.split('\n\n');
  const value = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(processor)?.[1] ?? '';
  const flags = new Set(value('flags').split(' '));
  const entries = new Map<string, CpuidEntry>();
  const known = new Map<string, number>();
  const put = (leaf: number, index: number, registers: Partial<CpuidEntry>) => {
    const empty = { function: leaf, index, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    entries.set(`${leaf}.${index}`, { ...empty, ...entries.get(`${leaf}.${index}`), ...registers });
  };
  put(LEAF.basic, 0, vendorRegisters(value('vendor_id')));
  put(LEAF.features, 0, { eax: signature(value) });
  for (const { leaf, index, register, names } of FEATURE_REGISTERS) {
    const key = featureKey(leaf, index, register);
    if (!LISTED.includes(key)) continue;
    let [bits, mask] = [0, 0];
    names.forEach((name, bit) => {
      if (name === undefined || UNLISTED.has(name)) return;
      mask |= 1 << bit;
      if (flags.has(name)) bits |= 1 << bit;
    });
    known.set(key, mask >>> 0);
    put(leaf, index, { [register]: bits >>> 0 });
  }
  return { cpuid: [...entries.values()], known };
}

function vendorRegisters(vendor: string): Partial<CpuidEntry> {
  const bytes = Buffer.from(vendor.padEnd(12, '\0').slice(0, 12), 'latin1');
  return { ebx: bytes.readUInt32LE(0), edx: bytes.readUInt32LE(4), ecx: bytes.readUInt32LE(8) };
}

/** Leaf 1, EAX, of family, model and stepping. (Intel SDM 2A, "CPUID", figure 3-6) */
function signature(value: (name: string) => string): number {
  const [family, model, stepping] = ['cpu family', 'model', 'stepping'].map(
    (name) => Number(value(name)) || 0,
  );
  const base = Math.min(family!, 0xf);
  const extended = family! - base;
  const bits =
    (extended << 20) | ((model! >> 4) << 16) | (base << 8) | ((model! & 0xf) << 4) | (stepping! & 0xf);
  return bits >>> 0;
}
