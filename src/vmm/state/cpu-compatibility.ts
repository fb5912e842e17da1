/**
 * Compares the CPU that a saved guest has seen with what a host offers. Pure: both sides are tables, so a
 * snapshot of one machine can be checked against the tables of another.
 *
 * The guest's side is what KVM_GET_CPUID2 said of its vCPUs, the host's is KVM_GET_SUPPORTED_CPUID and what a new
 * vCPU sees: features that a host's CPU shows to guests although KVM hides them are on both sides, so they make no
 * difference to the host that the guest is from. A host may have more; it must not
 * have less. (Intel SDM 2A, "CPUID"; KVM api.rst, KVM_GET_SUPPORTED_CPUID, KVM_GET_MSR_INDEX_LIST, KVM_SET_TSC_KHZ)
 */
import { bitsOf } from '../../binary/bits.ts';
import { hex } from '../../binary/bytes.ts';
import {
  FEATURE_REGISTERS,
  featureName,
  XSAVE_COMPONENTS,
  type FeatureRegister,
  type RegisterName,
} from '../../cpuid/feature-names.ts';
import { findLeaf, LEAF, vendorOf } from '../../cpuid/leaf.ts';
import { msrName } from '../../kvm/msr-names.ts';
import type { CpuidEntry } from '../../machine/cpuid-entry.ts';

/** What a saved guest needs of a CPU. */
export interface CpuNeeds {
  /** The CPUID tables of its vCPUs, at least one; those that differ only in their APIC ids once. */
  readonly tables: readonly (readonly CpuidEntry[])[];
  /** Saved MSRs by index; of several vCPUs the highest value. */
  readonly msrs: ReadonlyMap<number, bigint>;
  /** Guest TSC frequency; 0: unknown. */
  readonly tscKhz: number;
}

/** What a host offers. */
export interface HostCpu {
  readonly cpuid: readonly CpuidEntry[];
  /**
   * Bits that `cpuid` says something about, by `featureKey`; undefined: about all. /proc/cpuinfo, for one, knows
   * nothing of KVM's own features.
   */
  readonly known?: ReadonlyMap<string, number>;
  /** KVM_GET_MSR_INDEX_LIST; undefined: unknown. */
  readonly msrs?: ReadonlySet<number>;
  /** KVM_CAP_TSC_DEADLINE_TIMER: the table above leaves this feature out. undefined: unknown. */
  readonly tscDeadline?: boolean;
  /** Frequency of the host's TSC; undefined or 0: unknown. */
  readonly tscKhz?: number;
  /** KVM_CAP_TSC_CONTROL: a guest's TSC may have another frequency. undefined: unknown. */
  readonly tscScaling?: boolean;
}

export const CPU_VERDICTS = ['fine', 'warning', 'refusal'] as const;
/** `refusal`: the guest would fail. `warning`: it sees a difference that it should survive. */
export type CpuVerdict = (typeof CPU_VERDICTS)[number];

/** One difference. */
export interface CpuDifference {
  readonly verdict: 'warning' | 'refusal';
  /** `CPUID 0x7.0 EBX`, `MSR`, `TSC`. */
  readonly where: string;
  readonly problem: string;
  /** The features or registers that are missing, by name. */
  readonly missing: readonly string[];
}

export interface CpuComparison {
  readonly verdict: CpuVerdict;
  readonly differences: readonly CpuDifference[];
}

/** Features that Volt sets by itself in the guest's table, or that follow the guest's CR4. (cpuid/build-cpuid.ts) */
const NOT_COMPARED: ReadonlyMap<string, number> = new Map([
  // TSC deadline (compared by itself), OSXSAVE, hypervisor.
  [featureKey(LEAF.features, 0, 'ecx'), bit(24) | bit(27) | bit(31)],
  // HTT
  [featureKey(LEAF.features, 0, 'edx'), bit(28)],
  // OSPKE, and MAWAU, which is a number.
  [featureKey(0x7, 0, 'ecx'), bit(4) | (0x1f << 17)],
  // CmpLegacy, TopologyExtensions
  [featureKey(LEAF.amdFeatures, 0, 'ecx'), bit(1) | bit(22)],
  // AMD's copies of leaf 1
  [featureKey(LEAF.amdFeatures, 0, 'edx'), 0x0183_f3ff],
]);
/** Bits that take something away, or say how something behaves: no instruction is missing without them. */
const HARMLESS: ReadonlyMap<string, number> = new Map([
  [featureKey(0x7, 0, 'ebx'), bit(6) | bit(13)],
  [featureKey(0x7, 0, 'edx'), bit(11) | bit(15)],
  [featureKey(LEAF.amdSizes, 0, 'ebx'), bit(2) | bit(16) | bit(17) | bit(18) | bit(19)],
]);
const SVM_LEAF = 0x8000_000a;
const XSAVE_LEAF = 0xd;
const PMU_LEAF = 0xa;
const TILE_LEAF = 0x1d;
const TMUL_LEAF = 0x1e;
const BRAND_LEAVES = [0x8000_0002, 0x8000_0003, 0x8000_0004];
/** As KVM's module parameter tsc_tolerance_ppm: below it KVM does not scale. */
const TSC_TOLERANCE = 250e-6;

export function featureKey(leaf: number, index: number, register: RegisterName): string {
  return `${leaf}.${index}.${register}`;
}

function bit(number: number): number {
  return (1 << number) >>> 0;
}

export function compareCpu(needs: CpuNeeds, host: HostCpu): CpuComparison {
  const differences = [
    ...distinct(needs.tables.flatMap((table) => compareTables(table, host))),
    ...compareMsrs(needs.msrs, host.msrs),
    ...compareTsc(needs.tscKhz, host),
  ];
  const has = (verdict: CpuVerdict) => differences.some((each) => each.verdict === verdict);
  return { verdict: has('refusal') ? 'refusal' : has('warning') ? 'warning' : 'fine', differences };
}

/** vCPUs have the same differences as a rule. */
function distinct(differences: readonly CpuDifference[]): CpuDifference[] {
  return [...new Map(differences.map((each) => [`${each.where} ${each.problem}`, each])).values()];
}

function compareTables(guest: readonly CpuidEntry[], host: HostCpu): CpuDifference[] {
  const vendors = [guest, host.cpuid].map((table) => vendorOf(table) || 'unknown');
  return [
    ...(vendors[0] === vendors[1]
      ? []
      : [refusal('CPUID 0x0', `the guest's vendor is ${vendors[0]}, this host's is ${vendors[1]}`)]),
    ...compareModel(guest, host.cpuid),
    ...FEATURE_REGISTERS.flatMap((register) => compareFeatures(register, guest, host)),
    ...compareDeadline(guest, host),
    ...(host.known ? [] : compareNumbers(guest, host.cpuid)),
  ];
}

/** Kernels choose workarounds by the model; the guest keeps those of the CPU that it started on. */
function compareModel(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): CpuDifference[] {
  const [ours, theirs] = [modelOf(guest), modelOf(host)];
  if (ours !== theirs && ours !== '' && theirs !== '')
    return [warning('CPUID 0x1 EAX', `the guest has seen ${ours}, this host is ${theirs}`)];
  const [brand, hostBrand] = [brandOf(guest), brandOf(host)];
  if (brand === hostBrand || brand === '' || hostBrand === '') return [];
  return [warning('CPUID 0x80000002', `the guest has seen a ${brand}, this host is a ${hostBrand}`)];
}

/** `family 6, model 143, stepping 8`; '' without leaf 1. (SDM 2A, "CPUID", figure 3-6) */
export function modelOf(table: readonly CpuidEntry[]): string {
  const eax = findLeaf(table, LEAF.features)?.eax;
  if (eax === undefined) return '';
  const base = bitsOf(eax, 11, 8);
  const family = base === 0xf ? base + bitsOf(eax, 27, 20) : base;
  const extended = base === 0x6 || base === 0xf ? bitsOf(eax, 19, 16) : 0;
  return `family ${family}, model ${(extended << 4) | bitsOf(eax, 7, 4)}, stepping ${bitsOf(eax, 3, 0)}`;
}

/** The processor's name, in printable ASCII: the table may come from a file. */
export function brandOf(table: readonly CpuidEntry[]): string {
  const text = BRAND_LEAVES.flatMap((leaf) => {
    const entry = findLeaf(table, leaf);
    return entry ? [entry.eax, entry.ebx, entry.ecx, entry.edx] : [];
  }).flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff));
  return String.fromCharCode(...text)
    .replace(/[^ -~]/g, ' ')
    .replace(/ +/g, ' ')
    .trim();
}

function compareFeatures(
  feature: FeatureRegister,
  guest: readonly CpuidEntry[],
  host: HostCpu,
): CpuDifference[] {
  const { leaf, index, register } = feature;
  // The features of nested SVM mean nothing to a guest without SVM.
  if (leaf === SVM_LEAF && !hasBit(guest, LEAF.amdFeatures, 'ecx', 2)) return [];
  const key = featureKey(leaf, index, register);
  const known = host.known ? (host.known.get(key) ?? 0) : 0xffff_ffff;
  const compared = known & ~(NOT_COMPARED.get(key) ?? 0);
  const wanted = findLeaf(guest, leaf, index)?.[register] ?? 0;
  const missing = wanted & ~(findLeaf(host.cpuid, leaf, index)?.[register] ?? 0) & compared;
  const harmless = missing & (HARMLESS.get(key) ?? 0);
  const where = registerName(leaf, index, register);
  const report = (bits: number, verdict: 'warning' | 'refusal'): CpuDifference[] => {
    const names = Array.from({ length: 32 }, (_, i) => i)
      .filter((i) => ((bits >>> i) & 1) !== 0)
      .map((i) => featureName(feature, i));
    if (names.length === 0) return [];
    return [{ verdict, where, problem: `this host lacks ${names.join(', ')}`, missing: names }];
  };
  return [...report(missing & ~harmless, 'refusal'), ...report(harmless, 'warning')];
}

function registerName(leaf: number, index: number, register?: RegisterName): string {
  const sub = [LEAF.features, 0x6, 0x4000_0001].includes(leaf) || leaf >= 0x8000_0000 ? '' : `.${index}`;
  return `CPUID ${hex(leaf)}${sub}${register ? ` ${register.toUpperCase()}` : ''}`;
}

function hasBit(
  table: readonly CpuidEntry[],
  leaf: number,
  register: RegisterName,
  number: number,
  index = 0,
): boolean {
  return (((findLeaf(table, leaf, index)?.[register] ?? 0) >>> number) & 1) !== 0;
}

function compareDeadline(guest: readonly CpuidEntry[], host: HostCpu): CpuDifference[] {
  if (!hasBit(guest, LEAF.features, 'ecx', 24) || host.tscDeadline !== false) return [];
  const name = 'tsc_deadline_timer';
  return [{ ...refusal('CPUID 0x1 ECX', `this host lacks ${name}`), missing: [name] }];
}

/** Leaves that hold sizes and counts. */
function compareNumbers(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): CpuDifference[] {
  return [
    ...compareAddressBits(guest, host),
    ...compareXsave(guest, host),
    ...comparePmu(guest, host),
    ...compareTiles(guest, host),
  ];
}

/** Leaf 0x80000008, EAX: physical address bits (7–0). Linear ones are the feature la57. */
function compareAddressBits(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): CpuDifference[] {
  const bits = (table: readonly CpuidEntry[]) => bitsOf(findLeaf(table, LEAF.amdSizes)?.eax ?? 0, 7, 0);
  const [ours, theirs] = [bits(guest), bits(host)];
  if (ours <= theirs || theirs === 0) return [];
  return [warning('CPUID 0x80000008 EAX', `the guest counts on ${ours} physical address bits of ${theirs}`)];
}

/** The layout of each state component that the guest may use: AMD's and Intel's differ in places. */
function compareXsave(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): CpuDifference[] {
  const inUse = (low: number, high: number) => {
    const [user, supervisor] = [findLeaf(guest, XSAVE_LEAF, 0), findLeaf(guest, XSAVE_LEAF, 1)];
    return Array.from({ length: high - low + 1 }, (_, i) => low + i).filter(
      (i) => ((((user?.eax ?? 0) | (supervisor?.ecx ?? 0)) >>> i) & 1) !== 0,
    );
  };
  // Components 0 and 1 are the legacy region, the same everywhere.
  return inUse(2, 31).flatMap((component) => {
    const [ours, theirs] = [findLeaf(guest, XSAVE_LEAF, component), findLeaf(host, XSAVE_LEAF, component)];
    // A component that the host lacks is reported as a missing feature.
    if (!ours || !theirs || (theirs.eax === 0 && theirs.ebx === 0)) return [];
    if (ours.eax === theirs.eax && ours.ebx === theirs.ebx) return [];
    const name = XSAVE_COMPONENTS[component] ?? `component ${component}`;
    return [
      refusal(
        `CPUID 0xd.${component}`,
        `${name} state has ${ours.eax} bytes at ${ours.ebx}, on this host ${theirs.eax} at ${theirs.ebx}`,
      ),
    ];
  });
}

/** Leaf 0xA: version (EAX 7–0), general counters (EAX 15–8), fixed counters (EDX 4–0). */
function comparePmu(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): CpuDifference[] {
  const [ours, theirs] = [findLeaf(guest, PMU_LEAF), findLeaf(host, PMU_LEAF)];
  const numbers = [
    ['performance monitoring version', bitsOf(ours?.eax ?? 0, 7, 0), bitsOf(theirs?.eax ?? 0, 7, 0)],
    ['performance counters', bitsOf(ours?.eax ?? 0, 15, 8), bitsOf(theirs?.eax ?? 0, 15, 8)],
    ['fixed performance counters', bitsOf(ours?.edx ?? 0, 4, 0), bitsOf(theirs?.edx ?? 0, 4, 0)],
  ] as const;
  return numbers.flatMap(([name, wanted, has]) =>
    wanted > has ? [refusal(`CPUID ${hex(PMU_LEAF)}`, `${name}: ${wanted}, and this host has ${has}`)] : [],
  );
}

/** Leaves 0x1D and 0x1E: sizes of AMX tiles, if the guest has them. */
function compareTiles(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): CpuDifference[] {
  if (!hasBit(guest, 0x7, 'edx', 24)) return [];
  const wanted = guest.filter((entry) => entry.function === TILE_LEAF || entry.function === TMUL_LEAF);
  return wanted.flatMap((entry) => {
    const theirs = findLeaf(host, entry.function, entry.index);
    const registers = ['eax', 'ebx', 'ecx', 'edx'] as const;
    const same = theirs && registers.every((name) => theirs[name] === entry[name]);
    return same
      ? []
      : [refusal(registerName(entry.function, entry.index), 'AMX tiles have other sizes here')];
  });
}

function compareMsrs(
  saved: ReadonlyMap<number, bigint>,
  host: ReadonlySet<number> | undefined,
): CpuDifference[] {
  if (!host) return [];
  const missing = [...saved].filter(([index]) => !host.has(index));
  const named = (chosen: readonly (readonly [number, bigint])[]) =>
    chosen.map(([index]) => {
      const name = msrName(index);
      return name.startsWith('0x') ? name : `${name} (${hex(index)})`;
    });
  const needed = named(missing.filter(([, value]) => value !== 0n));
  const zero = named(missing.filter(([, value]) => value === 0n));
  const list = (names: readonly string[]) => names.join(', ');
  return [
    ...(needed.length > 0
      ? [{ ...refusal('MSR', `this host's KVM lacks ${list(needed)}`), missing: needed }]
      : []),
    ...(zero.length > 0
      ? [
          {
            ...warning('MSR', `this host's KVM lacks ${list(zero)}, which the guest has 0 in`),
            missing: zero,
          },
        ]
      : []),
  ];
}

function compareTsc(guestKhz: number, { tscKhz: hostKhz = 0, tscScaling }: HostCpu): CpuDifference[] {
  if (guestKhz === 0 || hostKhz === 0) return [];
  if (Math.abs(guestKhz - hostKhz) <= hostKhz * TSC_TOLERANCE || tscScaling === true) return [];
  const rates = `the guest's TSC runs at ${guestKhz} kHz, this host's at ${hostKhz} kHz`;
  if (tscScaling === undefined) return [warning('TSC', `${rates}; whether KVM can scale it is unknown`)];
  return [refusal('TSC', `${rates}, and KVM cannot scale it`)];
}

function refusal(where: string, problem: string): CpuDifference {
  return { verdict: 'refusal', where, problem, missing: [] };
}

function warning(where: string, problem: string): CpuDifference {
  return { verdict: 'warning', where, problem, missing: [] };
}
