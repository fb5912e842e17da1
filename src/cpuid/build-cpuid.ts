/**
 * Builds the CPUID table of a vCPU: what the host's KVM supports, with the topology leaves rewritten to agree
 * with the APIC ids of the MADT and the MP tables.
 *
 * Sources: Intel SDM 2A, "CPUID"; AMD APM volume 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
import { bitsOf, withBits } from '../binary/bits.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { DOMAIN, findLeaf, INDEXED, isAmd, LEAF, mapLeaf, replaceLeaf, type Registers } from './leaf.ts';

/** Placement of one vCPU in the topology. (smp/topology.ts) */
export interface CpuidPlacement {
  readonly apicId: number;
  readonly socket: number;
  readonly die: number;
  readonly core: number;
}

/** Capacities of each level, and the shifts of APIC ids as in leaf 0xB. (smp/topology.ts) */
export interface CpuidTopology {
  readonly threadsPerCore: number;
  readonly coresPerDie: number;
  readonly diesPerSocket: number;
  readonly shifts: { readonly core: number; readonly die: number; readonly socket: number };
}

export interface CpuidInputs {
  /** The table from KVM_GET_SUPPORTED_CPUID. */
  readonly host: readonly CpuidEntry[];
  readonly topology: CpuidTopology;
  /** KVM_CAP_TSC_DEADLINE_TIMER: the table above leaves this feature out. (KVM api.rst) */
  readonly tscDeadline: boolean;
  /** Guest TSC frequency in kHz; 0 if unknown. */
  readonly tscKhz: number;
}

/** Input frequency of KVM's local APIC timer. */
const APIC_BUS_KHZ = 1_000_000;

/** The table of one vCPU. */
export function buildCpuid(inputs: CpuidInputs & { readonly placement: CpuidPlacement }): CpuidEntry[] {
  const { placement, topology } = inputs;
  return buildCommonCpuid(inputs).map((entry) => entryForCpu(entry, placement, topology));
}

/** The table that all vCPUs share. Entries that `differsPerCpu` selects are those of APIC id 0. */
export function buildCommonCpuid(inputs: CpuidInputs): CpuidEntry[] {
  const amd = isAmd(inputs.host);
  let table: CpuidEntry[] = [...inputs.host];
  table = setFeatures(table, inputs);
  // AMD has no leaf 0x1F and reports dies in 0x8000001E. With both, Linux 6.1 divides the cores by the dies
  // twice.
  table = setExtendedTopology(table, inputs, !amd && inputs.topology.diesPerSocket > 1);
  table = setHypervisorTiming(table, inputs.tscKhz);
  return amd ? setAmdTopology(table, inputs) : setIntelCaches(table, inputs);
}

/** Whether an entry contains the vCPU's own APIC id or placement. */
export function differsPerCpu({ function: leaf }: CpuidEntry): boolean {
  return (
    leaf === LEAF.features ||
    leaf === LEAF.extendedTopology ||
    leaf === LEAF.extendedTopologyV2 ||
    leaf === LEAF.amdTopology
  );
}

/** An entry of the common table as one vCPU reads it. */
export function entryForCpu(
  entry: CpuidEntry,
  placement: CpuidPlacement,
  topology: CpuidTopology,
): CpuidEntry {
  switch (entry.function) {
    case LEAF.features:
      // Initial APIC id, 8 bits; leaf 0xB has all 32.
      return { ...entry, ebx: withBits(entry.ebx, 31, 24, placement.apicId & 0xff) };
    case LEAF.extendedTopology:
    case LEAF.extendedTopologyV2:
      return { ...entry, edx: placement.apicId };
    case LEAF.amdTopology: {
      // Node ids are unique across sockets.
      const node = placement.socket * topology.diesPerSocket + placement.die;
      const ebx = withBits(entry.ebx, 7, 0, placement.core & 0xff);
      return { ...entry, eax: placement.apicId, ebx, ecx: withBits(entry.ecx, 7, 0, node & 0xff) };
    }
    default:
      return entry;
  }
}

function threadsPerSocket(topology: CpuidTopology): number {
  return topology.threadsPerCore * topology.coresPerDie * topology.diesPerSocket;
}

function setFeatures(table: CpuidEntry[], { topology, tscDeadline }: CpuidInputs): CpuidEntry[] {
  const threads = threadsPerSocket(topology);
  return mapLeaf(table, LEAF.features, ({ ebx, ecx, edx }) => ({
    // Maximum number of logical processor ids in this package, 8 bits.
    ebx: withBits(withBits(ebx, 31, 24, 0), 23, 16, Math.min(threads, 255)),
    // Bit 31: hypervisor present. Bit 24: TSC-deadline timer.
    ecx: withBits(withBits(ecx, 31, 31, 1), 24, 24, tscDeadline ? 1 : 0),
    // Bit 28, HTT: without it kernels ignore the count above and assume one logical processor per package.
    edx: withBits(edx, 28, 28, threads > 1 ? 1 : 0),
  }));
}

/** Sets leaf 0xB, and leaf 0x1F if the CPU has it or dies require it. */
function setExtendedTopology(table: CpuidEntry[], inputs: CpuidInputs, withDies: boolean): CpuidEntry[] {
  const { topology } = inputs;
  const highest = findLeaf(table, LEAF.basic)?.eax ?? 0;
  const wanted = withDies ? LEAF.extendedTopologyV2 : LEAF.extendedTopology;
  const reached = Math.max(highest, wanted);
  const raised = mapLeaf(table, LEAF.basic, () => ({ eax: reached }));
  const thread = { type: DOMAIN.thread, shift: topology.shifts.core, count: topology.threadsPerCore };
  const allCores = { type: DOMAIN.core, shift: topology.shifts.socket, count: threadsPerSocket(topology) };
  const withV1 = replaceLeaf(raised, LEAF.extendedTopology, domains([thread, allCores]), INDEXED);
  if (reached < LEAF.extendedTopologyV2) return withV1;
  const dieCores = {
    type: DOMAIN.core,
    shift: topology.shifts.die,
    count: topology.threadsPerCore * topology.coresPerDie,
  };
  const dies = { type: DOMAIN.die, shift: topology.shifts.socket, count: threadsPerSocket(topology) };
  const levels = withDies ? [thread, dieCores, dies] : [thread, allCores];
  return replaceLeaf(withV1, LEAF.extendedTopologyV2, domains(levels), INDEXED);
}

interface Domain {
  readonly type: number;
  /** Number of bits to shift an x2APIC id right by for the id of the next higher domain. */
  readonly shift: number;
  /** Capacity in logical processors; fewer may exist. (smp/topology.ts) */
  readonly count: number;
}

/**
 * Subleaves of leaf 0xB or 0x1F, with the invalid one that ends the enumeration. EDX, the x2APIC id, is set
 * later.
 */
function domains(levels: readonly Domain[]): Registers[] {
  const edx = 0;
  const valid = levels.map(({ type, shift, count }, i) => ({
    eax: shift,
    ebx: count,
    ecx: (type << 8) | i,
    edx,
  }));
  return [...valid, { eax: 0, ebx: 0, ecx: levels.length, edx }];
}

/**
 * Leaf 4, EAX of each cache: the maximum number of ids that share it (bits 25–14) and of core ids in the
 * package (bits 31–26), both minus one and rounded up to a power of two. L1 and L2 are private to a core; a
 * die shares the others.
 */
function setIntelCaches(table: CpuidEntry[], { topology }: CpuidInputs): CpuidEntry[] {
  const { shifts } = topology;
  const coreIds = Math.min(2 ** (shifts.socket - shifts.core), 64);
  return mapLeaf(table, LEAF.caches, ({ eax }) => {
    const type = bitsOf(eax, 4, 0);
    if (type === 0) return {};
    const sharing = bitsOf(eax, 7, 5) <= 2 ? 2 ** shifts.core : 2 ** shifts.die;
    return { eax: withBits(withBits(eax, 31, 26, coreIds - 1), 25, 14, Math.min(sharing, 4096) - 1) };
  });
}

/**
 * AMD's own leaves. Linux detects threads and dies only with TopologyExtensions. That feature only means that
 * these leaves exist, so it is set if the topology needs them, even if KVM does not report it.
 */
function setAmdTopology(table: CpuidEntry[], { topology }: CpuidInputs): CpuidEntry[] {
  const threads = threadsPerSocket(topology);
  const { shifts } = topology;
  const perDie = topology.threadsPerCore * topology.coresPerDie;
  const hasCaches = bitsOf(findLeaf(table, LEAF.amdCaches)?.eax ?? 0, 4, 0) !== 0;
  const extensions = hasCaches || topology.threadsPerCore > 1 || topology.diesPerSocket > 1;
  let changed = mapLeaf(table, LEAF.amdFeatures, ({ ecx }) => ({
    // Bit 1, CmpLegacy: HTT means several cores, not several threads. Bit 22, TopologyExtensions.
    ecx: withBits(withBits(ecx, 1, 1, threads > 1 ? 1 : 0), 22, 22, extensions ? 1 : 0),
  }));
  changed = mapLeaf(changed, LEAF.amdSizes, ({ ecx }) => ({
    // NC: logical processors of the package minus one. ApicIdSize: bits of an APIC id below the package's.
    ecx: withBits(withBits(ecx, 7, 0, Math.min(threads, 256) - 1), 15, 12, shifts.socket),
  }));
  changed = mapLeaf(changed, LEAF.amdCaches, ({ eax }) => {
    if (bitsOf(eax, 4, 0) === 0) return {};
    const sharing = bitsOf(eax, 7, 5) <= 2 ? topology.threadsPerCore : perDie;
    return { eax: withBits(eax, 25, 14, Math.min(sharing, 4096) - 1) };
  });
  if (!extensions) return changed;
  changed = mapLeaf(changed, LEAF.extendedBasic, ({ eax }) => ({ eax: Math.max(eax, LEAF.amdTopology) }));
  const registers = {
    eax: 0,
    ebx: (topology.threadsPerCore - 1) << 8,
    ecx: (topology.diesPerSocket - 1) << 8,
    edx: 0,
  };
  return replaceLeaf(changed, LEAF.amdTopology, [registers], 0);
}

/**
 * Sets the hypervisor timing leaf, by which guests skip the calibration of TSC and APIC timer. (VMware's,
 * used by Linux)
 */
function setHypervisorTiming(table: CpuidEntry[], tscKhz: number): CpuidEntry[] {
  const hypervisor = findLeaf(table, LEAF.hypervisor);
  if (!hypervisor || tscKhz === 0) return table;
  const highest = Math.max(hypervisor.eax, LEAF.hypervisorTiming);
  const raised = mapLeaf(table, LEAF.hypervisor, () => ({ eax: highest }));
  const timing = { eax: tscKhz, ebx: APIC_BUS_KHZ, ecx: 0, edx: 0 };
  return replaceLeaf(raised, LEAF.hypervisorTiming, [timing], 0);
}
