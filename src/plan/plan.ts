/**
 * Plans a machine without /dev/kvm: contents of guest memory, addresses of devices, CPUID and entry
 * registers. `volt inspect` prints the plan; vmm/apply.ts and vmm/machine.ts carry it out.
 */
import type { BootInputs } from '../boot/boot-inputs.ts';
import type { BootPlan, BootProtocol, EntryState, FileLoad, MemoryWrite } from '../boot/boot-plan.ts';
import { planBoot } from '../boot/plan-boot.ts';
import { buildResetVector } from '../boot/reset-vector.ts';
import type { AcpiNuma, AcpiPci } from '../acpi/acpi-inputs.ts';
import { buildAcpiTables, type AcpiTables } from '../acpi/acpi-tables.ts';
import type { ByteSource } from '../binary/byte-source.ts';
import { buildCpuid, type CpuidInputs } from '../cpuid/build-cpuid.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { LAYOUT, ramRanges, type RamRange } from '../machine/layout.ts';
import { nameOfSlot } from '../pci/address.ts';
import { buildMpTables, type MpTables } from '../smp/mp-table.ts';
import { placeNodeMemory, type NodeMemory, type NumaPlan } from '../smp/numa.ts';
import { placeCpus, topologyShifts, type CpuPlacement, type Topology } from '../smp/topology.ts';
import { fitsMpTables, type VmConfig } from '../config/config.ts';
import type { PmemConfig } from '../virtio/pmem/spec.ts';
import { hotplugRange, placeMem, type MemPlacement } from '../virtio/mem/shape.ts';
import { placePmem, type PmemPlacement } from '../virtio/pmem/placement.ts';
import { pinsOfFirstBus, planPci } from './plan-pci.ts';
import { placeDevices, type SlotPlacement } from '../virtio/host/placement.ts';

/** CPU features of the host's KVM. */
export interface HostCpuInfo {
  /** From KVM_GET_SUPPORTED_CPUID. */
  readonly cpuid: readonly CpuidEntry[];
  /** KVM_CAP_TSC_DEADLINE_TIMER */
  readonly tscDeadline: boolean;
  /** Guest TSC frequency; 0 if unknown. */
  readonly tscKhz: number;
}

/** What of the host a plan depends on. */
export interface HostInputs extends Pick<HostCpuInfo, 'tscDeadline'> {
  /** The VM generation ID, 16 random bytes. */
  readonly vmGenerationId: Uint8Array;
}

/** Files other than the kernel and the initrd. */
export interface FileInfo {
  /** Size of each device's file, in the order of `pmemOf`. */
  readonly pmemBytes: readonly number[];
}

/** The part of the plan that needs no information about the host: an invalid image is reported first. */
export interface ImagePlan {
  readonly ranges: readonly RamRange[];
  readonly boot: BootPlan;
}

export interface MachinePlan {
  readonly ranges: readonly RamRange[];
  /** Without an entry for a machine that is restored, whose vCPUs continue where they were. */
  readonly boot: Omit<BootPlan, 'entry'> & { readonly entry: EntryState | undefined };
  /** undefined if they are turned off, or if there are more CPUs than they can describe. */
  readonly mpTables: MpTables | undefined;
  /** undefined if ACPI is turned off. */
  readonly acpi: AcpiTables | undefined;
  readonly topology: Topology;
  /** All vCPUs; the first `present` of them are present at start, the others are hotpluggable. */
  readonly cpus: readonly CpuPlacement[];
  readonly present: number;
  /** NUMA node of each vCPU, by index; empty without NUMA. */
  readonly nodeOfCpu: readonly number[];
  readonly nodeMemory: readonly NodeMemory[];
  /** Index of the BSP in `cpus`. */
  readonly bootCpu: number;
  /** Structures that Volt builds, by address. */
  readonly writes: readonly MemoryWrite[];
  readonly loads: readonly FileLoad[];
  /** Virtio devices, by address. */
  readonly devices: readonly PlannedDevice[];
  /** Persistent memory. It is in no memory map: the device's configuration space has its address. */
  readonly pmem: readonly PmemPlacement[];
  /** Hotpluggable memory. It is in no memory map but the SRAT. */
  readonly hotplug: MemPlacement | undefined;
  /** undefined: there is no PCI bus. */
  readonly pci: AcpiPci | undefined;
}

/** A virtio device with its register window and interrupt. */
export interface PlannedDevice extends SlotPlacement {
  readonly id: string;
  readonly kind: string;
  /** Bus, device and function, as lspci writes them; undefined: on MMIO. */
  readonly pciName?: string;
}

/** Throws VoltError 'image' for files that cannot be booted. */
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

/** Throws VoltError 'usage' if the tables or the devices do not fit. */
export function planMachine(
  config: VmConfig,
  image: ImagePlan,
  host: HostInputs,
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
          pciPins: config.pci && pinsOfFirstBus(config.pci),
        })
      : undefined;
  const hotplug = hotplugOf(config, image.ranges);
  const ranges = hotplug ? [...image.ranges, hotplugRange(hotplug)] : image.ranges;
  const pmem = placePmem(pmemOf(config), files.pmemBytes, ranges);
  const pci = config.pci && planPci(config.pci, ranges, pmem);
  const acpi = config.acpi
    ? planAcpi(config, cpus, nodeOfCpu, { memory: nodeMemory, ranges: image.ranges, hotplug, pci })
    : undefined;
  const devices = planDevices(config);
  const writes: MemoryWrite[] = [...image.boot.writes, ...(acpi?.tables ?? [])];
  if (acpi)
    writes.push({
      name: 'vm-generation-id',
      address: LAYOUT.vmGenerationId.address,
      bytes: host.vmGenerationId,
    });
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
    pmem,
    hotplug,
    pci,
  };
}

/**
 * A machine that is restored: its memory holds what was planned when it was started, so nothing is written and
 * no kernel is read. Throws VoltError 'usage' if the devices do not fit.
 */
export function planRestored(config: VmConfig, protocol: BootProtocol, files: FileInfo): MachinePlan {
  const ranges = ramRanges(config.memoryBytes);
  const hotplug = hotplugOf(config, ranges);
  return {
    ranges,
    hotplug,
    boot: { protocol, summary: `restored, ${protocol}`, entry: undefined, writes: [], loads: [] },
    mpTables: undefined,
    acpi: undefined,
    topology: config.topology,
    cpus: placeCpus(config.topology, config.maxCpus),
    present: config.cpus,
    nodeOfCpu: nodesOfCpus(config),
    nodeMemory: config.numa ? placeNodeMemory(config.numa.nodes, ranges) : [],
    bootCpu: config.bootCpu,
    writes: [],
    loads: [],
    devices: planDevices(config),
    pmem: placePmem(pmemOf(config), files.pmemBytes, hotplug ? [...ranges, hotplugRange(hotplug)] : ranges),
    pci: undefined,
  };
}

function planDevices(config: VmConfig): PlannedDevice[] {
  return placeDevices(config.devices, config).map((placement, i) => {
    const { id, kind } = config.devices[i]!;
    const { pciSlot } = placement;
    return { id, kind, ...placement, ...(pciSlot === undefined ? {} : { pciName: nameOfSlot(pciSlot) }) };
  });
}

/** The persistent memory devices, in the order of the configuration. */
export function pmemOf({ devices }: Pick<VmConfig, 'devices'>): PmemConfig[] {
  return devices.filter((device) => device.kind === 'pmem');
}

/** Where hotpluggable memory is, behind all RAM. */
function hotplugOf({ devices }: VmConfig, ranges: readonly RamRange[]): MemPlacement | undefined {
  const mem = devices.find((device) => device.kind === 'mem');
  return mem && placeMem({ ...mem.shape, node: mem.node }, ranges);
}

function nodesOfCpus({ numa }: VmConfig): number[] {
  const nodes: number[] = [];
  numa?.nodes.forEach(({ cpus }, node) => cpus.forEach((cpu) => (nodes[cpu] = node)));
  return nodes;
}

function planAcpi(
  config: VmConfig,
  placements: readonly CpuPlacement[],
  nodeOfCpu: readonly number[],
  {
    memory,
    ranges,
    hotplug,
    pci,
  }: {
    readonly memory: readonly NodeMemory[];
    readonly ranges: readonly RamRange[];
    readonly hotplug: MemPlacement | undefined;
    readonly pci: AcpiPci | undefined;
  },
): AcpiTables {
  const cpus = placements.map(({ index, ...placement }) => {
    const node = nodeOfCpu[index];
    return {
      uid: index,
      ...placement,
      present: index < config.cpus,
      ...(node === undefined ? {} : { node }),
    };
  });
  // Kernels number CPUs in the order of the MADT, whose first entry should be the boot processor. (ACPI 6.5
  // §5.2.12.1)
  const [bsp] = cpus.splice(config.bootCpu, 1);
  return buildAcpiTables({
    cpus: [bsp!, ...cpus],
    bootCpu: config.bootCpu,
    cpuHotplug: config.cpuHotplug,
    ...acpiNodes(config.numa, memory, ranges, hotplug),
    virtio: pci ? [] : placeDevices(config.devices, config),
    ...(pci ? { pci } : {}),
    vmGenerationId: LAYOUT.vmGenerationId.address,
    serial: true,
  });
}

/** Without NUMA nodes hotpluggable memory makes one, since the SRAT alone says that more memory may come. */
function acpiNodes(
  numa: NumaPlan | undefined,
  memory: readonly NodeMemory[],
  ranges: readonly RamRange[],
  hotplug: MemPlacement | undefined,
): { readonly numa?: AcpiNuma } {
  if (!numa && !hotplug) return {};
  const nodes = numa
    ? acpiNuma(numa, memory)
    : { memory: ranges.map((range) => ({ ...range, node: 0 })), distances: [[10]] };
  if (!hotplug) return { numa: nodes };
  const later = { ...hotplugRange(hotplug), node: hotplug.node, hotPluggable: true };
  return { numa: { ...nodes, memory: [...nodes.memory, later] } };
}

function acpiNuma({ distances, latency, bandwidth }: NumaPlan, memory: readonly NodeMemory[]): AcpiNuma {
  return { memory, distances, ...(latency ? { latency } : {}), ...(bandwidth ? { bandwidth } : {}) };
}

/** Higher ids need x2APIC mode; 255 is the broadcast id. (Intel SDM 3A §11.12) */
const HIGHEST_XAPIC_ID = 254;

/** Whether a vCPU, present or hotpluggable, has an APIC id that xAPIC mode cannot address. */
export function needsX2apicMode({ cpus }: Pick<MachinePlan, 'cpus'>): boolean {
  return cpus.at(-1)!.apicId > HIGHEST_XAPIC_ID;
}

/** The CPUID table of one vCPU of the plan. */
export function planCpuid(plan: MachinePlan, cpu: CpuPlacement, host: HostCpuInfo): CpuidEntry[] {
  return buildCpuid({ ...cpuidInputs(plan, host), placement: cpu });
}

export function cpuidInputs({ topology }: MachinePlan, host: HostCpuInfo): CpuidInputs {
  const { cpuid, tscDeadline, tscKhz } = host;
  return { host: cpuid, topology: { ...topology, shifts: topologyShifts(topology) }, tscDeadline, tscKhz };
}

/** Kernel parameters with which Linux does not use the TSC-deadline timer and falls back to the PIT. */
const PIT_WORDS =
  /(^|\s)(lapic=notscdeadline|notscdeadline|no-kvmclock|nolapic|disableapic|nolapic_timer|noapictimer)(\s|$)/;

/** Whether Linux takes its first timer ticks from the PIT. (MpTableInputs.timer) */
export function needsPit(cmdline: string, tscDeadline: boolean): boolean {
  return !tscDeadline || PIT_WORDS.test(cmdline);
}
