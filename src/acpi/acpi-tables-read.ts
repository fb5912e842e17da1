/**
 * Decodes ACPI tables from guest memory, found as a kernel finds them: RSDP, XSDT, tables. Reports the errors
 * of each table and the contradictions between them. (ACPI 6.5 §5.2)
 */
import { getAscii, getU64, hex, viewOf } from '../binary/bytes.ts';
import { byteSum } from '../binary/checksum.ts';
import {
  FADT,
  HEADER,
  MADT,
  RSDP,
  RSDP_V1_BYTES,
  RSDP_SIGNATURE,
  SIGNATURE,
  SLIT,
  SRAT,
} from './acpi.layout.ts';
import { findTableInconsistencies } from './acpi-consistency.ts';
import { readFadt, type FadtContents } from './fadt-read.ts';
import { readMadt, type MadtContents } from './madt-read.ts';
import { readSlit, readSrat, type SratContents } from './numa-read.ts';
import { readPptt, type PpttContents } from './pptt-read.ts';
import { RSDT_ENTRY_BYTES } from './rsdt.ts';
import { XSDT_ENTRY_BYTES } from './xsdt.ts';

/** Reads `bytes` bytes of guest memory at `address`; undefined unless all of them exist. */
export type AcpiMemoryReader = (address: number, bytes: number) => Uint8Array | undefined;

export interface AcpiTableRow {
  readonly signature: string;
  readonly address: number;
  readonly bytes: number;
  readonly revision: number;
}

export interface AcpiContents {
  /** Its address; undefined if there is none, and then there are no tables either. */
  readonly rsdp: number | undefined;
  /** All tables, in the order in which they are found. */
  readonly tables: readonly AcpiTableRow[];
  readonly fadt: FadtContents | undefined;
  readonly madt: MadtContents | undefined;
  readonly srat: SratContents | undefined;
  /** The SLIT: `distances[from][to]`. */
  readonly distances: readonly (readonly number[])[] | undefined;
  readonly pptt: PpttContents | undefined;
  /** Errors, one line each. */
  readonly problems: readonly string[];
}

/**
 * Where a kernel searches for the RSDP that no boot loader passed, on 16-byte boundaries. (ACPI 6.5 §5.2.5.1)
 */
const SCAN = { from: 0xe_0000, to: 0x10_0000, step: 16 } as const;
/** A larger length is an error. */
const LARGEST_TABLE = 0x100_0000;
const MINIMUM_BYTES: Readonly<Record<string, number>> = {
  [SIGNATURE.fadt]: FADT.size,
  [SIGNATURE.madt]: MADT.size,
  [SIGNATURE.srat]: SRAT.size,
  [SIGNATURE.slit]: SLIT.size,
};

/** Reads all tables, from the RSDP at `rsdp`, or from the first one that a search finds. */
export function readAcpiTables(
  read: AcpiMemoryReader,
  rsdp: number | undefined = findRsdp(read),
): AcpiContents {
  const problems: string[] = [];
  const rows: AcpiTableRow[] = [];
  const found = new Map<string, Uint8Array>();
  const load = (address: number, signature?: string) => {
    const table = readTable(read, address, signature, problems);
    if (table === undefined) return undefined;
    const name = getAscii(table, HEADER.signature, 4);
    rows.push({ signature: name, address, bytes: table.length, revision: table[HEADER.revision]! });
    if (found.has(name)) problems.push(`${name}: the XSDT lists two`);
    else found.set(name, table);
    return table;
  };
  const decode = <T>(signature: string, decoder: (table: Uint8Array, problems: string[]) => T) => {
    const table = found.get(signature);
    return table && decoder(table, problems);
  };

  const roots = readRsdp(read, rsdp, problems);
  const xsdt = roots && load(roots.xsdt, SIGNATURE.xsdt);
  const listed = xsdt ? listedAddresses(xsdt, XSDT_ENTRY_BYTES, problems) : [];
  for (const address of listed) load(address);
  if (xsdt && roots.rsdt !== 0)
    checkRsdt(readTable(read, roots.rsdt, SIGNATURE.rsdt, problems), listed, problems);
  const fadt = decode(SIGNATURE.fadt, readFadt);
  if (fadt) load(fadt.dsdt, SIGNATURE.dsdt);
  const contents = {
    rsdp,
    tables: rows,
    fadt,
    madt: decode(SIGNATURE.madt, readMadt),
    srat: decode(SIGNATURE.srat, readSrat),
    distances: decode(SIGNATURE.slit, readSlit),
    pptt: decode(SIGNATURE.pptt, readPptt),
  };
  if (xsdt && !fadt) problems.push('XSDT: no readable FADT is listed');
  if (xsdt && !contents.madt) problems.push('XSDT: no readable MADT is listed');
  return { ...contents, problems: [...problems, ...findTableInconsistencies(contents)] };
}

function findRsdp(read: AcpiMemoryReader): number | undefined {
  for (let address: number = SCAN.from; address < SCAN.to; address += SCAN.step) {
    const start = read(address, RSDP_V1_BYTES);
    if (start && getAscii(start, 0, 8) === RSDP_SIGNATURE && byteSum(start) === 0) return address;
  }
  return undefined;
}

/** Addresses of the RSDT, 0 if there is none, and of the XSDT. */
function readRsdp(
  read: AcpiMemoryReader,
  address: number | undefined,
  problems: string[],
): { readonly rsdt: number; readonly xsdt: number } | undefined {
  const bytes = address === undefined ? undefined : read(address, RSDP.size);
  if (bytes === undefined || getAscii(bytes, RSDP.signature, 8) !== RSDP_SIGNATURE) {
    const where = address === undefined ? 'from 0xe0000 to 0xfffff' : `at ${hex(address)}`;
    problems.push(`RSDP: not found ${where}`);
    return undefined;
  }
  const sums = [byteSum(bytes.subarray(0, RSDP_V1_BYTES)), byteSum(bytes)];
  if (sums.some((sum) => sum !== 0))
    problems.push(`RSDP: the first 20 and all 36 bytes sum to ${sums.join(' and ')} (expected 0)`);
  const length = viewOf(bytes).getUint32(RSDP.length, true);
  if (length !== RSDP.size) problems.push(`RSDP: the length is ${length} (expected ${RSDP.size})`);
  if (bytes[RSDP.revision]! < 2) {
    problems.push(`RSDP: the revision is ${bytes[RSDP.revision]} (expected 2, which has an XSDT)`);
    return undefined;
  }
  return { rsdt: viewOf(bytes).getUint32(RSDP.rsdt, true), xsdt: getU64(viewOf(bytes), RSDP.xsdt) };
}

/** A whole table; undefined if its header is invalid. */
function readTable(
  read: AcpiMemoryReader,
  address: number,
  signature: string | undefined,
  problems: string[],
): Uint8Array | undefined {
  const header = read(address, HEADER.size);
  if (header === undefined) {
    problems.push(`${signature ?? 'table'} at ${hex(address)}: there is no memory at this address`);
    return undefined;
  }
  const name = getAscii(header, HEADER.signature, 4);
  if (!/^[A-Z0-9]{4}$/.test(name) || (signature !== undefined && name !== signature)) {
    problems.push(
      `table at ${hex(address)}: the signature is ${JSON.stringify(name)} (expected ${signature ?? 'four letters or digits'})`,
    );
    return undefined;
  }
  const length = viewOf(header).getUint32(HEADER.length, true);
  const least = MINIMUM_BYTES[name] ?? HEADER.size;
  const table = length >= least && length <= LARGEST_TABLE ? read(address, length) : undefined;
  if (table === undefined) {
    problems.push(`${name}: the length is ${length} (expected at least ${least}, within memory)`);
    return undefined;
  }
  const sum = byteSum(table);
  if (sum !== 0) problems.push(`${name}: the bytes sum to ${sum} (expected 0)`);
  return table;
}

/** The addresses that an XSDT or RSDT lists. */
function listedAddresses(table: Uint8Array, entryBytes: 4 | 8, problems: string[]): number[] {
  const bytes = table.length - HEADER.size;
  if (bytes % entryBytes !== 0) {
    const name = getAscii(table, HEADER.signature, 4);
    problems.push(`${name}: ${bytes} bytes of addresses (expected a multiple of ${entryBytes})`);
  }
  const view = viewOf(table);
  const read = (at: number) =>
    entryBytes === XSDT_ENTRY_BYTES ? getU64(view, at) : view.getUint32(at, true);
  return Array.from({ length: Math.floor(bytes / entryBytes) }, (_, i) => read(HEADER.size + entryBytes * i));
}

/** The RSDT and the XSDT must list the same tables. (ACPI 6.5 §5.2.8) */
function checkRsdt(rsdt: Uint8Array | undefined, inXsdt: readonly number[], problems: string[]): void {
  if (rsdt === undefined) return;
  const listed = listedAddresses(rsdt, RSDT_ENTRY_BYTES, problems);
  if (listed.join() === inXsdt.join()) return;
  const addresses = (list: readonly number[]) => list.map((address) => hex(address)).join(', ');
  problems.push(`RSDT: it lists ${addresses(listed)} (expected ${addresses(inXsdt)}, as in the XSDT)`);
}
