/** Fixed ACPI Description Table (FADT) of a hardware-reduced ACPI platform. (ACPI 6.5 §5.2.9) */
import { putAscii, putU64 } from '../binary/bytes.ts';
import type { GuestAddress } from '../machine/address.ts';
import { CMOS_CENTURY, PORT, RESET_CONTROL_RESET } from '../machine/ports.ts';
import { BOOT_ARCHITECTURE, FADT, FADT_FLAG, SIGNATURE } from './acpi.layout.ts';
import type { AcpiCpu } from './acpi-inputs.ts';
import { buildTable, putPort } from './sdt.ts';

/** ACPI 6.5. Linux honours the MADT flag "online capable" from 6.3. */
const REVISION = 6;
const MINOR_REVISION = 5;
/** Hypervisor vendor identity, zero-padded to eight bytes. */
const HYPERVISOR = 'VOLT';
/** Flat logical destination mode addresses 8 local APICs. (SDM 3A §11.6.2.2) */
const FLAT_MODE_CPUS = 8;

export function buildFadt(dsdt: GuestAddress, cpus: readonly AcpiCpu[]): Uint8Array {
  return buildTable(SIGNATURE.fadt, REVISION, FADT.size, [], (table, view) => {
    view.setUint32(FADT.dsdt, dsdt, true);
    table[FADT.century] = CMOS_CENTURY;
    view.setUint16(
      FADT.bootArchitecture,
      BOOT_ARCHITECTURE.legacyDevices | BOOT_ARCHITECTURE.i8042 | BOOT_ARCHITECTURE.noVga,
      true,
    );
    view.setUint32(FADT.flags, flagsFor(cpus), true);
    putPort(view, FADT.resetRegister, PORT.resetControl);
    table[FADT.resetValue] = RESET_CONTROL_RESET;
    table[FADT.minorRevision] = MINOR_REVISION;
    putU64(view, FADT.xDsdt, dsdt);
    putPort(view, FADT.sleepControl, PORT.acpiSleepControl);
    putPort(view, FADT.sleepStatus, PORT.acpiSleepStatus);
    putAscii(table, FADT.hypervisor, HYPERVISOR);
  });
}

/** More CPUs need FORCE_APIC_PHYSICAL_DESTINATION_MODE. (§5.2.9, table 5.10) */
function flagsFor(cpus: readonly AcpiCpu[]): number {
  const many = cpus.length > FLAT_MODE_CPUS || cpus.some((cpu) => cpu.apicId >= FLAT_MODE_CPUS);
  return (
    FADT_FLAG.wbinvd |
    FADT_FLAG.procC1 |
    FADT_FLAG.powerButtonDevice |
    FADT_FLAG.sleepButtonDevice |
    FADT_FLAG.rtcWakeNotFixed |
    FADT_FLAG.resetRegister |
    FADT_FLAG.headless |
    FADT_FLAG.hardwareReduced |
    (many ? FADT_FLAG.physicalDestinations : 0)
  );
}
