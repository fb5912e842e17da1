/** System Resource Affinity Table (SRAT): the node of each CPU and memory range. (ACPI 6.5 §5.2.16) */
import { putU64 } from '../binary/bytes.ts';
import {
  SIGNATURE,
  SRAT,
  SRAT_ENABLED,
  SRAT_HOT_PLUGGABLE,
  SRAT_LOCAL_APIC,
  SRAT_LOCAL_X2APIC,
  SRAT_MEMORY,
  SRAT_TYPE,
} from './acpi.layout.ts';
import type { AcpiCpu, AcpiMemory } from './acpi-inputs.ts';
import { needsX2apic } from './madt.ts';
import { buildTable, typedEntry } from './sdt.ts';

const REVISION = 3;

/** Absent CPUs are listed too: the guest needs their node when they are hotplugged. */
export function buildSrat(cpus: readonly AcpiCpu[], memory: readonly AcpiMemory[]): Uint8Array {
  const entries = [...cpus.map(cpuAffinity), ...memory.map(memoryAffinity)];
  return buildTable(SIGNATURE.srat, REVISION, SRAT.size, entries, (_, view) => {
    view.setUint32(SRAT.one, 1, true);
  });
}

function cpuAffinity(cpu: AcpiCpu): Uint8Array {
  const domain = cpu.node ?? 0;
  if (needsX2apic(cpu)) {
    return typedEntry(SRAT_TYPE.localX2apic, SRAT_LOCAL_X2APIC.size, (_, view) => {
      view.setUint32(SRAT_LOCAL_X2APIC.domain, domain, true);
      view.setUint32(SRAT_LOCAL_X2APIC.apicId, cpu.apicId, true);
      view.setUint32(SRAT_LOCAL_X2APIC.flags, SRAT_ENABLED, true);
    });
  }
  return typedEntry(SRAT_TYPE.localApic, SRAT_LOCAL_APIC.size, (entry, view) => {
    entry[SRAT_LOCAL_APIC.domainLow] = domain;
    entry[SRAT_LOCAL_APIC.apicId] = cpu.apicId;
    view.setUint32(SRAT_LOCAL_APIC.flags, SRAT_ENABLED, true);
    for (let i = 0; i < 3; i++) entry[SRAT_LOCAL_APIC.domainHigh + i] = domain >>> (8 * (i + 1));
  });
}

function memoryAffinity({ address, bytes, node, hotPluggable }: AcpiMemory): Uint8Array {
  return typedEntry(SRAT_TYPE.memory, SRAT_MEMORY.size, (_, view) => {
    view.setUint32(SRAT_MEMORY.domain, node, true);
    putU64(view, SRAT_MEMORY.base, address);
    putU64(view, SRAT_MEMORY.bytes, bytes);
    view.setUint32(SRAT_MEMORY.flags, SRAT_ENABLED | (hotPluggable ? SRAT_HOT_PLUGGABLE : 0), true);
  });
}
