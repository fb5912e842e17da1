/** The machine as ACPI tables describe it: what `buildAcpiTables` and each table's builder take. */
import type { GuestAddress } from '../machine/address.ts';

export interface AcpiCpu {
  /** The vCPU's index, below 4096. */
  readonly uid: number;
  readonly apicId: number;
  /** false: may be plugged later */
  readonly present: boolean;
  readonly node?: number;
  readonly socket: number;
  readonly die: number;
  readonly core: number;
  readonly thread: number;
}

export interface AcpiMemory {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly node: number;
}

export interface AcpiNuma {
  readonly memory: readonly AcpiMemory[];
  /** `distances[from][to]`, 10 on the diagonal, at most 255 */
  readonly distances: readonly (readonly number[])[];
  /** `[from][to]` in nanoseconds */
  readonly latency?: readonly (readonly number[])[];
  /** `[from][to]` in MB/s */
  readonly bandwidth?: readonly (readonly number[])[];
}

export interface AcpiVirtioDevice {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly gsi: number;
}

export interface AcpiInputs {
  /** In the order of the MADT: the BSP first, whatever its index. */
  readonly cpus: readonly AcpiCpu[];
  /** Index of the BSP. */
  readonly bootCpu: number;
  readonly cpuHotplug: boolean;
  readonly numa?: AcpiNuma;
  readonly virtio: readonly AcpiVirtioDevice[];
  /** Whether there is a COM1. */
  readonly serial: boolean;
}
