/**
 * The plan of a machine: everything that will be in guest memory and every vCPU's CPUID and registers, computed
 * without /dev/kvm. `volt inspect` prints it; `apply` carries it out.
 */
import type { BootInputs } from '../boot/boot-inputs.ts';
import type { BootPlan, FileLoad, MemoryWrite } from '../boot/boot-plan.ts';
import { planBoot } from '../boot/plan-boot.ts';
import { buildResetVector } from '../boot/reset-vector.ts';
import type { AcpiNuma } from '../acpi/acpi-inputs.ts';
import { buildAcpiTables, type AcpiTables } from '../acpi/acpi-tables.ts';
import type { ByteSource } from '../binary/byte-source.ts';
import { buildCpuid, type CpuidInputs } from '../cpuid/build-cpuid.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { LAYOUT, ramRanges, type RamRange } from '../machine/layout.ts';
import { buildMpTables, type MpTables } from '../smp/mp-table.ts';
import { placeNodeMemory, type NodeMemory, type NumaPlan } from '../smp/numa.ts';
import { placeCpus, topologyShifts, type CpuPlacement, type Topology } from '../smp/topology.ts';
import { fitsMpTables, type VmConfig } from '../config/config.ts';
import type { PmemConfig } from '../virtio/pmem/spec.ts';
import { placePmem, type PmemPlacement } from '../virtio/pmem/placement.ts';
import { placeDevices, type SlotPlacement } from '../virtio/host/placement.ts';

/** What the plan needs to know of the host. */
export interface HostCpuInfo {
  readonly cpuid: readonly CpuidEntry[];
  readonly tscDeadline: boolean;
  /** 0 when KVM does not tell. */
  readonly tscKhz: number;
}

/** What it needs to know of files that are neither kernel nor initrd. */
export interface FileInfo {
  /** Sizes of the files of `pmemOf`, in its order. */
  readonly pmemBytes: readonly number[];
}

/** The part that depends on the files alone, so that a bad image is told before the host is asked anything. */
export interface ImagePlan {
  readonly ranges: readonly RamRange[];
  readonly boot: BootPlan;
}

export interface MachinePlan {
  readonly ranges: readonly RamRange[];
  readonly boot: BootPlan;
  /** undefined: turned off, or there are more CPUs than MP tables can tell. */
  readonly mpTables: MpTables | undefined;
  readonly acpi: AcpiTables | undefined;
  readonly topology: Topology;
  /** All vCPUs that there may be; the first `present` of them are there from the start. */
  readonly cpus: readonly CpuPlacement[];
  readonly present: number;
  /** Node of each vCPU by index; empty without NUMA. */
  readonly nodeOfCpu: readonly number[];
  readonly nodeMemory: readonly NodeMemory[];
  /** Index of the BSP among them. */
  readonly bootCpu: number;
  /** Everything Volt writes itself, by address. */
  readonly writes: readonly MemoryWrite[];
  readonly loads: readonly FileLoad[];
  /** Virtio devices, in the order of their places. */
  readonly devices: readonly PlannedDevice[];
  /** Persistent memory, which is no RAM and in no table: its devices tell where it lies. */
  readonly pmem: readonly PmemPlacement[];
}

/** A virtio device and where the guest finds it. */
export interface PlannedDevice extends SlotPlacement {
  readonly id: string;
  readonly kind: string;
}

export function planImage(config: VmConfig, kernel: ByteSource, initrd: ByteSource | undefined): ImagePlan {
  const ranges = ramRanges(config.memoryBytes);
  const inputs: BootInputs = {
    kernel,
    initrd,
    cmdline: config.cmdline,
    ranges,
    ...(config.acpi ? { rsdp: LAYOUT.acpiRsdp.address } : {}),
  };
  return { ranges, boot: planBoot(inputs, config.boot) };
}

export function planMachine(
  config: VmConfig,
  image: ImagePlan,
  host: Pick<HostCpuInfo, 'tscDeadline'>,
  files: FileInfo,
): MachinePlan {
  const { topology, cpus: present, bootCpu } = config;
  const cpus = placeCpus(topology, config.maxCpus);
  const nodeOfCpu = nodesOfCpus(config);
  const nodeMemory = config.numa ? placeNodeMemory(config.numa.nodes, image.ranges) : [];
  const mpTables =
    config.mpTables && fitsMpTables(config)
      ? buildMpTables({
          bootCpu,
          apicIds: cpus.slice(0, present).map((cpu) => cpu.apicId),
          timer: needsPit(config.cmdline, host.tscDeadline) ? 'int' : 'extInt',
        })
      : undefined;
  const acpi = config.acpi ? planAcpi(config, cpus, nodeOfCpu, nodeMemory) : undefined;
  const places = placeDevices(config.devices);
  const devices = config.devices.map(({ id, kind }, i) => ({ id, kind, ...places[i]! }));
  const writes: MemoryWrite[] = [...image.boot.writes, ...(acpi?.tables ?? [])];
  writes.push({ name: 'reset-vector', address: LAYOUT.resetVector.address, bytes: buildResetVector() });
  if (mpTables) {
    writes.push({ name: 'mp-floating-pointer', ...mpTables.floatingPointer });
    writes.push({ name: 'mp-config-table', ...mpTables.configTable });
  }
  writes.sort((a, b) => a.address - b.address);
  return {
    ranges: image.ranges,
    boot: image.boot,
    mpTables,
    acpi,
    topology,
    cpus,
    present,
    nodeOfCpu,
    nodeMemory,
    bootCpu,
    writes,
    loads: image.boot.loads,
    devices,
    pmem: placePmem(pmemOf(config), files.pmemBytes, image.ranges),
  };
}

/** Devices of persistent memory, in their order. */
export function pmemOf({ devices }: Pick<VmConfig, 'devices'>): PmemConfig[] {
  return devices.filter((device) => device.kind === 'pmem');
}

function nodesOfCpus({ numa }: VmConfig): number[] {
  const nodes: number[] = [];
  numa?.nodes.forEach(({ cpus }, node) => cpus.forEach((cpu) => (nodes[cpu] = node)));
  return nodes;
}

function planAcpi(
  config: VmConfig,
  places: readonly CpuPlacement[],
  nodeOfCpu: readonly number[],
  memory: readonly NodeMemory[],
): AcpiTables {
  const cpus = places.map(({ index, ...place }) => {
    const node = nodeOfCpu[index];
    return { uid: index, ...place, present: index < config.cpus, ...(node === undefined ? {} : { node }) };
  });
  // Kernels number CPUs in the order of the MADT and expect the one they booted on first. (ACPI 6.5 §5.2.12.1)
  const [bsp] = cpus.splice(config.bootCpu, 1);
  return buildAcpiTables({
    cpus: [bsp!, ...cpus],
    bootCpu: config.bootCpu,
    cpuHotplug: config.cpuHotplug,
    ...(config.numa ? { numa: acpiNuma(config.numa, memory) } : {}),
    virtio: placeDevices(config.devices),
    serial: true,
  });
}

function acpiNuma({ distances, latency, bandwidth }: NumaPlan, memory: readonly NodeMemory[]): AcpiNuma {
  return { memory, distances, ...(latency ? { latency } : {}), ...(bandwidth ? { bandwidth } : {}) };
}

/** Above it an id needs x2APIC; 255 is the broadcast. */
const HIGHEST_XAPIC_ID = 254;

/** Whether a vCPU, perhaps one that may be plugged later, has an id that xAPIC cannot name. */
export function needsX2apicMode({ cpus }: Pick<MachinePlan, 'cpus'>): boolean {
  return cpus.at(-1)!.apicId > HIGHEST_XAPIC_ID;
}

/** The CPUID table of one vCPU of the plan. */
export function planCpuid(plan: MachinePlan, cpu: CpuPlacement, host: HostCpuInfo): CpuidEntry[] {
  return buildCpuid({ ...cpuidInputs(plan, host), place: cpu });
}

export function cpuidInputs({ topology }: MachinePlan, host: HostCpuInfo): CpuidInputs {
  const { cpuid, tscDeadline, tscKhz } = host;
  return { host: cpuid, topology: { ...topology, shifts: topologyShifts(topology) }, tscDeadline, tscKhz };
}

/** Command-line words after which Linux has no TSC-deadline timer, or cannot use it, and falls back on the PIT. */
const PIT_WORDS =
  /(^|\s)(lapic=notscdeadline|notscdeadline|no-kvmclock|nolapic|disableapic|nolapic_timer|noapictimer)(\s|$)/;

/** Whether a Linux guest takes its first timer ticks from the PIT; see MpTableInputs.timer. */
export function needsPit(cmdline: string, tscDeadline: boolean): boolean {
  return !tscDeadline || PIT_WORDS.test(cmdline);
}
