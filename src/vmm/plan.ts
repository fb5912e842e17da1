/**
 * The plan of a machine: everything that will be in guest memory and every vCPU's CPUID and registers, computed
 * without /dev/kvm. `volt inspect` prints it; `apply` carries it out.
 */
import type { BootInputs } from '../boot/boot-inputs.ts';
import type { BootPlan, FileLoad, MemoryWrite } from '../boot/boot-plan.ts';
import { planBoot } from '../boot/plan-boot.ts';
import type { ByteSource } from '../binary/byte-source.ts';
import { buildCpuid } from '../cpuid/build-cpuid.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { ramRanges, type RamRange } from '../machine/layout.ts';
import { buildMpTables, type MpTables } from '../smp/mp-table.ts';
import { placeCpus, singleSocket, topologyShifts, type CpuPlace, type Topology } from '../smp/topology.ts';
import type { VmConfig } from './config.ts';

/** What the plan needs to know of the host. */
export interface HostFacts {
  readonly cpuid: readonly CpuidEntry[];
  readonly tscDeadline: boolean;
  /** 0 when KVM does not tell. */
  readonly tscKhz: number;
}

/** The part that depends on the files alone, so that a bad image is told before the host is asked anything. */
export interface ImagePlan {
  readonly ranges: readonly RamRange[];
  readonly boot: BootPlan;
}

export interface MachinePlan {
  readonly ranges: readonly RamRange[];
  readonly boot: BootPlan;
  readonly mpTables: MpTables;
  readonly topology: Topology;
  readonly cpus: readonly CpuPlace[];
  /** Index of the BSP among them. */
  readonly bootCpu: number;
  /** Everything Volt writes itself, by address. */
  readonly writes: readonly MemoryWrite[];
  readonly loads: readonly FileLoad[];
}

export function planImage(config: VmConfig, kernel: ByteSource, initrd: ByteSource | undefined): ImagePlan {
  const ranges = ramRanges(config.memoryBytes);
  const inputs: BootInputs = { kernel, initrd, cmdline: config.cmdline, ranges };
  return { ranges, boot: planBoot(inputs, config.boot) };
}

export function planMachine(
  config: VmConfig,
  image: ImagePlan,
  host: Pick<HostFacts, 'tscDeadline'>,
): MachinePlan {
  const topology = plannedTopology(config);
  const cpus = plannedCpus(config);
  const mpTables = buildMpTables({
    bootCpu: config.bootCpu,
    apicIds: cpus.map((cpu) => cpu.apicId),
    timer: needsPit(config.cmdline, host.tscDeadline) ? 'int' : 'extInt',
  });
  const writes: MemoryWrite[] = [
    ...image.boot.writes,
    { name: 'mp-floating-pointer', ...mpTables.floatingPointer },
    { name: 'mp-config-table', ...mpTables.configTable },
  ];
  writes.sort((a, b) => a.address - b.address);
  return {
    ranges: image.ranges,
    boot: image.boot,
    mpTables,
    topology,
    cpus,
    bootCpu: config.bootCpu,
    writes,
    loads: image.boot.loads,
  };
}

function plannedTopology(config: VmConfig): Topology {
  return singleSocket(config.cpus, config.threadsPerCore);
}

/** Where each vCPU will sit; known before anything of the host or the files. */
export function plannedCpus(config: VmConfig): CpuPlace[] {
  return placeCpus(plannedTopology(config), config.cpus);
}

/** The CPUID table of one vCPU of the plan. */
export function planCpuid(plan: MachinePlan, cpu: CpuPlace, host: HostFacts): CpuidEntry[] {
  return buildCpuid({
    host: host.cpuid,
    place: cpu,
    topology: { ...plan.topology, shifts: topologyShifts(plan.topology) },
    tscDeadline: host.tscDeadline,
    tscKhz: host.tscKhz,
  });
}

/** Command-line words after which Linux has no TSC-deadline timer, or cannot use it, and falls back on the PIT. */
const PIT_WORDS =
  /(^|\s)(lapic=notscdeadline|notscdeadline|no-kvmclock|nolapic|disableapic|nolapic_timer|noapictimer)(\s|$)/;

/** Whether a Linux guest takes its first timer ticks from the PIT; see MpTableInputs.timer. */
export function needsPit(cmdline: string, tscDeadline: boolean): boolean {
  return !tscDeadline || PIT_WORDS.test(cmdline);
}
