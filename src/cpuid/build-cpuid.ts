/**
 * The CPUID table of one vCPU: what this host's KVM supports, with the leaves that tell a CPU its place
 * rewritten so that they agree with the APIC ids of the MP tables.
 *
 * Sources: Intel SDM 2A, "CPUID"; AMD APM volume 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
import { bitsOf, withBits } from '../binary/bits.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { findLeaf, INDEXED, isAmd, mapLeaf, replaceLeaf, type Registers } from './leaf.ts';

/** The place of one vCPU, as `smp/` computes it. */
export interface CpuidPlacement {
  readonly apicId: number;
  readonly socket: number;
  readonly die: number;
  readonly core: number;
}

/** Counts of the machine; shifts as CPUID leaf 0xB defines them. */
export interface CpuidTopology {
  readonly threadsPerCore: number;
  readonly coresPerDie: number;
  readonly diesPerSocket: number;
  readonly shifts: { readonly core: number; readonly die: number; readonly socket: number };
}

export interface CpuidInputs {
  /** KVM_GET_SUPPORTED_CPUID. */
  readonly host: readonly CpuidEntry[];
  readonly topology: CpuidTopology;
  /** KVM_CAP_TSC_DEADLINE_TIMER: KVM emulates the mode, yet its CPUID table may leave the bit out. */
  readonly tscDeadline: boolean;
  /** Guest TSC frequency in kHz; 0 when KVM does not tell. */
  readonly tscKhz: number;
}

const LEAF = {
  basic: 0x0,
  features: 0x1,
  caches: 0x4,
  extendedTopology: 0xb,
  extendedTopologyV2: 0x1f,
  hypervisor: 0x4000_0000,
  hypervisorTiming: 0x4000_0010,
  amdBasic: 0x8000_0000,
  amdFeatures: 0x8000_0001,
  amdSizes: 0x8000_0008,
  amdCaches: 0x8000_001d,
  amdTopology: 0x8000_001e,
} as const;

/** Domain types of leaves 0xB and 0x1F, ECX bits 15–8. */
const DOMAIN = { thread: 1, core: 2, die: 5 } as const;

/** KVM's local APIC timer counts at 1 GHz. */
const APIC_BUS_KHZ = 1_000_000;

/** The table of the vCPU at `place`. */
export function buildCpuid(inputs: CpuidInputs & { readonly place: CpuidPlacement }): CpuidEntry[] {
  const { place, topology } = inputs;
  return buildCommonCpuid(inputs).map((entry) => entryForCpu(entry, place, topology));
}

/** What all vCPUs of a machine are told; where an entry `differsPerCpu`, it is that of APIC id 0. */
export function buildCommonCpuid(inputs: CpuidInputs): CpuidEntry[] {
  const amd = isAmd(inputs.host);
  let table: CpuidEntry[] = [...inputs.host];
  table = setFeatures(table, inputs);
  // AMD has no leaf 0x1F, but tells dies by 0x8000001E; Linux 6.1 divides its cores by the dies twice if it finds both.
  table = setExtendedTopology(table, inputs, !amd && inputs.topology.diesPerSocket > 1);
  table = setHypervisorTiming(table, inputs.tscKhz);
  return amd ? setAmdTopology(table, inputs) : setIntelCaches(table, inputs);
}

export function differsPerCpu({ function: leaf }: CpuidEntry): boolean {
  return (
    leaf === LEAF.features ||
    leaf === LEAF.extendedTopology ||
    leaf === LEAF.extendedTopologyV2 ||
    leaf === LEAF.amdTopology
  );
}

/** An entry of the common table as the vCPU at `place` reads it. */
export function entryForCpu(entry: CpuidEntry, place: CpuidPlacement, topology: CpuidTopology): CpuidEntry {
  switch (entry.function) {
    case LEAF.features:
      // Initial APIC id, of which 8 bits fit; hence leaf 0xB.
      return { ...entry, ebx: withBits(entry.ebx, 31, 24, place.apicId & 0xff) };
    case LEAF.extendedTopology:
    case LEAF.extendedTopologyV2:
      return { ...entry, edx: place.apicId };
    case LEAF.amdTopology: {
      // Nodes are counted through all sockets.
      const node = place.socket * topology.diesPerSocket + place.die;
      const ebx = withBits(entry.ebx, 7, 0, place.core & 0xff);
      return { ...entry, eax: place.apicId, ebx, ecx: withBits(entry.ecx, 7, 0, node & 0xff) };
    }
    default:
      return entry;
  }
}

export function threadsPerSocket(topology: CpuidTopology): number {
  return topology.threadsPerCore * topology.coresPerDie * topology.diesPerSocket;
}

function setFeatures(table: CpuidEntry[], { topology, tscDeadline }: CpuidInputs): CpuidEntry[] {
  const threads = threadsPerSocket(topology);
  return mapLeaf(table, LEAF.features, ({ ebx, ecx, edx }) => ({
    // Logical processors of this socket, of which 8 bits fit.
    ebx: withBits(withBits(ebx, 31, 24, 0), 23, 16, Math.min(threads, 255)),
    // Bit 31: under a hypervisor. Bit 24: TSC-deadline timer.
    ecx: withBits(withBits(ecx, 31, 31, 1), 24, 24, tscDeadline ? 1 : 0),
    // HTT: without it kernels do not look at the counts above and take the machine for a uniprocessor.
    edx: withBits(edx, 28, 28, threads > 1 ? 1 : 0),
  }));
}

/** Leaf 0xB, and 0x1F where the CPU reaches that far or dies have to be told in it. */
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
  /** Bits to shift an x2APIC id right for the id of the next domain. */
  readonly shift: number;
  /** Logical processors that one such domain has room for; some may be missing (smp/topology.ts). */
  readonly count: number;
}

/** Subleaves of 0xB or 0x1F, with the invalid one that ends the enumeration. EDX is the x2APIC id in all. */
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
 * Leaf 4: in each cache's EAX, how many ids share it (bits 25–14) and how many core ids a package has (31–26),
 * both as "largest minus one" of the power of two that the id fields span. L1 and L2 belong to a core, others to
 * the die.
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
 * AMD's own leaves. Linux believes in threads and dies only under TopologyExtensions, which is a statement about
 * these leaves and needs no hardware: it is set where there is something to tell, even if KVM left it out.
 */
function setAmdTopology(table: CpuidEntry[], { topology }: CpuidInputs): CpuidEntry[] {
  const threads = threadsPerSocket(topology);
  const { shifts } = topology;
  const perDie = topology.threadsPerCore * topology.coresPerDie;
  const hasCaches = bitsOf(findLeaf(table, LEAF.amdCaches)?.eax ?? 0, 4, 0) !== 0;
  const extensions = hasCaches || topology.threadsPerCore > 1 || topology.diesPerSocket > 1;
  let changed = mapLeaf(table, LEAF.amdFeatures, ({ ecx }) => ({
    // CmpLegacy, bit 1: HTT means several cores rather than several threads. TopologyExtensions, bit 22.
    ecx: withBits(withBits(ecx, 1, 1, threads > 1 ? 1 : 0), 22, 22, extensions ? 1 : 0),
  }));
  changed = mapLeaf(changed, LEAF.amdSizes, ({ ecx }) => ({
    // NC: threads of the socket minus one. ApicIdSize: bits of an APIC id below the socket's number.
    ecx: withBits(withBits(ecx, 7, 0, Math.min(threads, 256) - 1), 15, 12, shifts.socket),
  }));
  changed = mapLeaf(changed, LEAF.amdCaches, ({ eax }) => {
    if (bitsOf(eax, 4, 0) === 0) return {};
    const sharing = bitsOf(eax, 7, 5) <= 2 ? topology.threadsPerCore : perDie;
    return { eax: withBits(eax, 25, 14, Math.min(sharing, 4096) - 1) };
  });
  if (!extensions) return changed;
  changed = mapLeaf(changed, LEAF.amdBasic, ({ eax }) => ({ eax: Math.max(eax, LEAF.amdTopology) }));
  const registers = {
    eax: 0,
    ebx: (topology.threadsPerCore - 1) << 8,
    ecx: (topology.diesPerSocket - 1) << 8,
    edx: 0,
  };
  return replaceLeaf(changed, LEAF.amdTopology, [registers], 0);
}

/** KVM has no leaf for frequencies; the timing leaf that other hypervisors use saves the guest a calibration. */
function setHypervisorTiming(table: CpuidEntry[], tscKhz: number): CpuidEntry[] {
  const hypervisor = findLeaf(table, LEAF.hypervisor);
  if (!hypervisor || tscKhz === 0) return table;
  const highest = Math.max(hypervisor.eax, LEAF.hypervisorTiming);
  const raised = mapLeaf(table, LEAF.hypervisor, () => ({ eax: highest }));
  const timing = { eax: tscKhz, ebx: APIC_BUS_KHZ, ecx: 0, edx: 0 };
  return replaceLeaf(raised, LEAF.hypervisorTiming, [timing], 0);
}
