/** The machine as the ACPI tables describe it: input of `buildAcpiTables` and of each table's builder. */
import type { GuestAddress } from '../machine/address.ts';

/** A processor, present or hotpluggable. */
export interface AcpiCpu {
  /** ACPI processor UID: the vCPU's index, below 4096. */
  readonly uid: number;
  readonly apicId: number;
  /** false: absent at start; it can be hotplugged if the machine has `cpuHotplug`. */
  readonly present: boolean;
  /** Proximity domain; undefined without NUMA. */
  readonly node?: number;
  readonly socket: number;
  readonly die: number;
  readonly core: number;
  readonly thread: number;
}

/** A range of RAM that belongs to one node. */
export interface AcpiMemory {
  readonly address: GuestAddress;
  readonly bytes: number;
  /** Proximity domain. */
  readonly node: number;
  /** Memory that may be plugged while the guest runs; it is not there at first. */
  readonly hotPluggable?: boolean;
}

/** One value for each pair of nodes: `matrix[from][to]`. */
export type NodeMatrix = readonly (readonly number[])[];

/** Contents of the SRAT, the SLIT and the HMAT. */
export interface AcpiNuma {
  /** All RAM, by address. */
  readonly memory: readonly AcpiMemory[];
  /** SLIT distances: 10 to the node itself, at most 254 to others. */
  readonly distances: NodeMatrix;
  /** Access latency in nanoseconds. Without latency and bandwidth there is no HMAT. */
  readonly latency?: NodeMatrix;
  /** Access bandwidth in MB/s. */
  readonly bandwidth?: NodeMatrix;
}

/** A virtio MMIO device: its register window and its interrupt. */
export interface AcpiVirtioDevice {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly gsi: number;
}

/** A range of guest physical addresses. */
export interface AcpiRange {
  readonly address: number;
  readonly bytes: number;
}

export interface AcpiPciBus {
  readonly number: number;
  /** Memory that the bus has for its devices. */
  readonly windows: readonly AcpiRange[];
  /** Devices of the bus that can be plugged and removed, by number. */
  readonly slots: readonly number[];
}

export interface AcpiPci {
  /** Configuration spaces of all buses. */
  readonly ecam: AcpiRange;
  /** By number, from 0. */
  readonly buses: readonly AcpiPciBus[];
}

export interface AcpiInputs {
  /** In the order of the MADT: the BSP first, whatever its index. */
  readonly cpus: readonly AcpiCpu[];
  /** Index of the BSP. */
  readonly bootCpu: number;
  /** Whether the machine has the CPU hotplug registers. */
  readonly cpuHotplug: boolean;
  /** undefined: one node, and no tables about nodes. */
  readonly numa?: AcpiNuma;
  /** Devices on MMIO. */
  readonly virtio: readonly AcpiVirtioDevice[];
  /** undefined: there is no PCI bus. */
  readonly pci?: AcpiPci;
  /** Address of the VM generation ID, 16 bytes; undefined: there is no such device. */
  readonly vmGenerationId?: GuestAddress;
  /** Whether COM1 exists. */
  readonly serial: boolean;
}
