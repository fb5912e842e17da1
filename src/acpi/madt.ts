/** Multiple APIC Description Table (MADT): processors, I/O APIC, interrupt routing. (ACPI 6.5 §5.2.12) */
import { GSI } from '../machine/irqs.ts';
import { LAYOUT } from '../machine/layout.ts';
import {
  ALL_UIDS,
  ALL_X2APIC_UIDS,
  INTERRUPT_FLAG,
  INTERRUPT_OVERRIDE,
  IO_APIC,
  LOCAL_APIC,
  LOCAL_APIC_FLAG,
  LOCAL_APIC_NMI,
  LOCAL_X2APIC,
  LOCAL_X2APIC_NMI,
  MADT,
  MADT_FLAG_PC_AT,
  MADT_TYPE,
  SIGNATURE,
} from './acpi.layout.ts';
import type { AcpiCpu, AcpiInputs } from './acpi-inputs.ts';
import { buildTable, typedEntry } from './sdt.ts';

const REVISION = 6;
/** May equal a local APIC's id: since the xAPIC, I/O APIC ids are not used for arbitration. */
const IO_APIC_ID = 0;
const NMI_LINT = 1;
const ISA_BUS = 0;

/**
 * Whether a processor needs a local x2APIC structure: in the local APIC structure, 255 means all.
 * (§5.2.12.12)
 */
export function needsX2apic(cpu: Pick<AcpiCpu, 'uid' | 'apicId'>): boolean {
  return cpu.apicId >= 0xff || cpu.uid >= ALL_UIDS;
}

export function buildMadt({ cpus, cpuHotplug }: Pick<AcpiInputs, 'cpus' | 'cpuHotplug'>): Uint8Array {
  const entries = [
    ...cpus.map((cpu) => processorEntry(cpu, cpuHotplug)),
    ioApicEntry(),
    gedOverride(),
    ...(cpus.every(needsX2apic) ? [] : [localApicNmi()]),
    ...(cpus.some(needsX2apic) ? [localX2apicNmi()] : []),
  ];
  return buildTable(SIGNATURE.madt, REVISION, MADT.size, entries, (_, view) => {
    view.setUint32(MADT.localApicAddress, LAYOUT.localApic.address, true);
    view.setUint32(MADT.flags, MADT_FLAG_PC_AT, true);
  });
}

/** A present processor is enabled, a hotpluggable one is online capable, never both. (§5.2.12.2) */
function processorEntry(cpu: AcpiCpu, cpuHotplug: boolean): Uint8Array {
  const absent = cpuHotplug ? LOCAL_APIC_FLAG.onlineCapable : 0;
  const flags = cpu.present ? LOCAL_APIC_FLAG.enabled : absent;
  if (needsX2apic(cpu)) {
    return typedEntry(MADT_TYPE.localX2apic, LOCAL_X2APIC.size, (_, view) => {
      view.setUint32(LOCAL_X2APIC.apicId, cpu.apicId, true);
      view.setUint32(LOCAL_X2APIC.flags, flags, true);
      view.setUint32(LOCAL_X2APIC.uid, cpu.uid, true);
    });
  }
  return typedEntry(MADT_TYPE.localApic, LOCAL_APIC.size, (entry, view) => {
    entry[LOCAL_APIC.uid] = cpu.uid;
    entry[LOCAL_APIC.apicId] = cpu.apicId;
    view.setUint32(LOCAL_APIC.flags, flags, true);
  });
}

function ioApicEntry(): Uint8Array {
  return typedEntry(MADT_TYPE.ioApic, IO_APIC.size, (entry, view) => {
    entry[IO_APIC.id] = IO_APIC_ID;
    view.setUint32(IO_APIC.address, LAYOUT.ioApic.address, true);
  });
}

/**
 * Every ISA IRQ is connected to the I/O APIC input of its number, edge-triggered and active high, which is
 * the default. So only IRQ 9 needs an override entry: guests expect the level-triggered SCI there, not the
 * generic event device.
 */
function gedOverride(): Uint8Array {
  return typedEntry(MADT_TYPE.interruptOverride, INTERRUPT_OVERRIDE.size, (entry, view) => {
    entry[INTERRUPT_OVERRIDE.bus] = ISA_BUS;
    entry[INTERRUPT_OVERRIDE.irq] = GSI.acpiEvent;
    view.setUint32(INTERRUPT_OVERRIDE.gsi, GSI.acpiEvent, true);
    view.setUint16(INTERRUPT_OVERRIDE.flags, INTERRUPT_FLAG.activeHigh | INTERRUPT_FLAG.edge, true);
  });
}

function localApicNmi(): Uint8Array {
  return typedEntry(MADT_TYPE.localApicNmi, LOCAL_APIC_NMI.size, (entry) => {
    entry[LOCAL_APIC_NMI.uid] = ALL_UIDS;
    entry[LOCAL_APIC_NMI.lint] = NMI_LINT;
  });
}

function localX2apicNmi(): Uint8Array {
  return typedEntry(MADT_TYPE.localX2apicNmi, LOCAL_X2APIC_NMI.size, (entry, view) => {
    view.setUint32(LOCAL_X2APIC_NMI.uid, ALL_X2APIC_UIDS, true);
    entry[LOCAL_X2APIC_NMI.lint] = NMI_LINT;
  });
}
