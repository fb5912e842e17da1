/** Decodes the fields of a FADT that Volt uses, and reports their errors. (ACPI 6.5 §5.2.9) */
import { getU64, hex, viewOf } from '../binary/bytes.ts';
import {
  ADDRESS_SPACE_IO,
  BOOT_ARCHITECTURE,
  FADT,
  FADT_FLAG,
  GENERIC_ADDRESS,
  HEADER,
} from './acpi.layout.ts';

export interface FadtContents {
  /** Major and minor version: `6.5`. */
  readonly revision: string;
  readonly dsdt: number;
  readonly hardwareReduced: boolean;
  readonly physicalDestinations: boolean;
  readonly i8042: boolean;
  /** I/O port; undefined if there is no register, or if it is not an I/O port. The same for the next two. */
  readonly resetPort: number | undefined;
  readonly resetValue: number;
  readonly sleepControlPort: number | undefined;
  readonly sleepStatusPort: number | undefined;
}

/** `table` includes the header and has at least FADT.size bytes. */
export function readFadt(table: Uint8Array, problems: string[]): FadtContents {
  const view = viewOf(table);
  const flags = view.getUint32(FADT.flags, true);
  const bootArchitecture = view.getUint16(FADT.bootArchitecture, true);
  const has = (flag: number) => (flags & flag) !== 0;
  const port = (offset: number) => {
    const address = getU64(view, offset + GENERIC_ADDRESS.address);
    return table[offset] === ADDRESS_SPACE_IO && address !== 0 ? address : undefined;
  };
  const [dsdt, xDsdt] = [view.getUint32(FADT.dsdt, true), getU64(view, FADT.xDsdt)];
  const contents: FadtContents = {
    revision: `${table[HEADER.revision]}.${table[FADT.minorRevision]! & 0x0f}`,
    dsdt: xDsdt || dsdt,
    hardwareReduced: has(FADT_FLAG.hardwareReduced),
    physicalDestinations: has(FADT_FLAG.physicalDestinations),
    i8042: (bootArchitecture & BOOT_ARCHITECTURE.i8042) !== 0,
    resetPort: has(FADT_FLAG.resetRegister) ? port(FADT.resetRegister) : undefined,
    resetValue: table[FADT.resetValue]!,
    sleepControlPort: port(FADT.sleepControl),
    sleepStatusPort: port(FADT.sleepStatus),
  };
  if (dsdt !== 0 && xDsdt !== 0 && dsdt !== xDsdt)
    problems.push(`FADT: DSDT and X_DSDT differ: ${hex(dsdt)} and ${hex(xDsdt)}`);
  if (contents.hardwareReduced && !(contents.sleepControlPort && contents.sleepStatusPort))
    problems.push('FADT: hardware-reduced ACPI is set, but there are no sleep control and status ports');
  if (has(FADT_FLAG.resetRegister) && contents.resetPort === undefined)
    problems.push('FADT: RESET_REG_SUP is set, but the reset register is not an I/O port');
  return contents;
}
