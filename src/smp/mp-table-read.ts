/**
 * Decodes MP tables, from Volt's own plan or from a memory dump, and reports their errors. (MPS 1.4, chapter
 * 4)
 */
import { getAscii, hex, viewOf } from '../binary/bytes.ts';
import { byteSum } from '../binary/checksum.ts';
import {
  BUS,
  CONFIG_HEADER,
  ENTRY_TYPE,
  FEATURE2_IMCR,
  FLOATING_POINTER,
  INTERRUPT,
  INTERRUPT_KIND,
  IO_APIC,
  PROCESSOR,
  PROCESSOR_FLAG,
  SIGNATURE,
} from './mp-table.layout.ts';

export type InterruptKind = 'INT' | 'NMI' | 'SMI' | 'ExtINT';

export type MpEntry =
  | {
      readonly type: 'processor';
      readonly apicId: number;
      readonly apicVersion: number;
      readonly enabled: boolean;
      readonly bootstrap: boolean;
      readonly signature: number;
      readonly features: number;
    }
  | { readonly type: 'bus'; readonly id: number; readonly name: string }
  | {
      readonly type: 'io-apic';
      readonly id: number;
      readonly version: number;
      readonly enabled: boolean;
      readonly address: number;
    }
  | {
      readonly type: 'io-interrupt' | 'local-interrupt';
      readonly kind: InterruptKind;
      readonly flags: number;
      readonly sourceBus: number;
      readonly sourceIrq: number;
      readonly destinationApic: number;
      readonly destinationPin: number;
    };

export interface MpFloatingPointer {
  readonly configTable: number;
  readonly revision: number;
  readonly feature1: number;
  readonly imcr: boolean;
}

export interface MpConfigTable {
  readonly revision: number;
  readonly oemId: string;
  readonly productId: string;
  readonly localApicAddress: number;
  readonly bytes: number;
  readonly entries: readonly MpEntry[];
}

/** A decoded structure and its errors; `value` is undefined where it cannot be decoded at all. */
export interface Decoded<T> {
  readonly value: T | undefined;
  readonly problems: readonly string[];
}

/** First byte of the signature: comparing it first makes the search of a large dump fast. */
const UNDERSCORE = 0x5f;

const KIND_NAMES: Readonly<Record<number, InterruptKind>> = {
  [INTERRUPT_KIND.int]: 'INT',
  [INTERRUPT_KIND.nmi]: 'NMI',
  [INTERRUPT_KIND.smi]: 'SMI',
  [INTERRUPT_KIND.extInt]: 'ExtINT',
};

export function readFloatingPointer(bytes: Uint8Array): Decoded<MpFloatingPointer> {
  if (bytes.length < FLOATING_POINTER.size || getAscii(bytes, 0, 4) !== SIGNATURE.floatingPointer) {
    return { value: undefined, problems: ['MP floating pointer: the signature _MP_ is missing'] };
  }
  const problems: string[] = [];
  const length = (bytes[FLOATING_POINTER.paragraphs] ?? 0) * 16;
  if (length !== FLOATING_POINTER.size)
    problems.push(`MP floating pointer: the length is ${length} (expected 16)`);
  const sum = byteSum(bytes.subarray(0, FLOATING_POINTER.size));
  if (sum !== 0) problems.push(`MP floating pointer: the bytes sum to ${sum} (expected 0)`);
  const value = {
    configTable: viewOf(bytes).getUint32(FLOATING_POINTER.configTable, true),
    revision: bytes[FLOATING_POINTER.revision] ?? 0,
    feature1: bytes[FLOATING_POINTER.feature1] ?? 0,
    imcr: ((bytes[FLOATING_POINTER.feature2] ?? 0) & FEATURE2_IMCR) !== 0,
  };
  return { value, problems };
}

/** `bytes` start with the table and may continue after it. */
export function readConfigTable(bytes: Uint8Array): Decoded<MpConfigTable> {
  if (bytes.length < CONFIG_HEADER.size || getAscii(bytes, 0, 4) !== SIGNATURE.configTable) {
    return { value: undefined, problems: ['MP configuration table: the signature PCMP is missing'] };
  }
  const view = viewOf(bytes);
  const length = view.getUint16(CONFIG_HEADER.baseLength, true);
  if (length < CONFIG_HEADER.size || length > bytes.length) {
    return {
      value: undefined,
      problems: [
        `MP configuration table: the length is ${length} (expected ${CONFIG_HEADER.size} to ${bytes.length})`,
      ],
    };
  }
  const problems: string[] = [];
  const sum = byteSum(bytes.subarray(0, length));
  if (sum !== 0) problems.push(`MP configuration table: the bytes sum to ${sum} (expected 0)`);
  const entries = readEntries(bytes.subarray(0, length), problems);
  const count = view.getUint16(CONFIG_HEADER.entryCount, true);
  if (count !== entries.length) {
    problems.push(
      `MP configuration table: the entry count is ${count} (expected ${entries.length}, the entries found)`,
    );
  }
  checkEntries(entries, problems);
  const value = {
    revision: bytes[CONFIG_HEADER.revision] ?? 0,
    oemId: getAscii(bytes, CONFIG_HEADER.oemId, 8).trimEnd(),
    productId: getAscii(bytes, CONFIG_HEADER.productId, 12).trimEnd(),
    localApicAddress: view.getUint32(CONFIG_HEADER.localApicAddress, true),
    bytes: length,
    entries,
  };
  return { value, problems };
}

/**
 * Offset of the first floating pointer in a memory dump, searched on 16-byte boundaries; -1 if there is none.
 * A wrong checksum is accepted at offset 0 only: the file may be just the table.
 */
export function findFloatingPointer(dump: Uint8Array): number {
  for (let at = 0; at + FLOATING_POINTER.size <= dump.length; at += 16) {
    if (dump[at] !== UNDERSCORE || getAscii(dump, at, 4) !== SIGNATURE.floatingPointer) continue;
    if (byteSum(dump.subarray(at, at + FLOATING_POINTER.size)) === 0) return at;
  }
  const startsWithOne =
    dump.length >= FLOATING_POINTER.size && getAscii(dump, 0, 4) === SIGNATURE.floatingPointer;
  return startsWithOne ? 0 : -1;
}

function readEntries(table: Uint8Array, problems: string[]): MpEntry[] {
  const entries: MpEntry[] = [];
  for (let at: number = CONFIG_HEADER.size; at < table.length;) {
    const type = table[at] ?? 0;
    const size = type === ENTRY_TYPE.processor ? PROCESSOR.size : INTERRUPT.size;
    if (type > ENTRY_TYPE.localInterrupt || at + size > table.length) {
      problems.push(
        `MP configuration table: the entry at offset ${hex(at)} has type ${type}, or is truncated (expected type 0 to 4)`,
      );
      break;
    }
    const entry = table.subarray(at, at + size);
    const kind = entry[INTERRUPT.kind] ?? 0;
    if (type >= ENTRY_TYPE.ioInterrupt && KIND_NAMES[kind] === undefined) {
      problems.push(
        `MP configuration table: the entry at offset ${hex(at)} has interrupt type ${kind} (expected 0 to 3)`,
      );
    }
    entries.push(readEntry(entry));
    at += size;
  }
  return entries;
}

function readEntry(entry: Uint8Array): MpEntry {
  const view = viewOf(entry);
  const u8 = (offset: number) => view.getUint8(offset);
  switch (u8(0)) {
    case ENTRY_TYPE.processor:
      return {
        type: 'processor',
        apicId: u8(PROCESSOR.apicId),
        apicVersion: u8(PROCESSOR.apicVersion),
        enabled: (u8(PROCESSOR.flags) & PROCESSOR_FLAG.enabled) !== 0,
        bootstrap: (u8(PROCESSOR.flags) & PROCESSOR_FLAG.bootstrap) !== 0,
        signature: view.getUint32(PROCESSOR.signature, true),
        features: view.getUint32(PROCESSOR.features, true),
      };
    case ENTRY_TYPE.bus:
      return { type: 'bus', id: u8(BUS.id), name: getAscii(entry, BUS.name, 6).trimEnd() };
    case ENTRY_TYPE.ioApic:
      return {
        type: 'io-apic',
        id: u8(IO_APIC.id),
        version: u8(IO_APIC.version),
        enabled: (u8(IO_APIC.flags) & 1) !== 0,
        address: view.getUint32(IO_APIC.address, true),
      };
    default:
      return {
        type: u8(0) === ENTRY_TYPE.ioInterrupt ? 'io-interrupt' : 'local-interrupt',
        kind: KIND_NAMES[u8(INTERRUPT.kind)] ?? 'INT',
        flags: view.getUint16(INTERRUPT.flags, true),
        sourceBus: u8(INTERRUPT.sourceBus),
        sourceIrq: u8(INTERRUPT.sourceIrq),
        destinationApic: u8(INTERRUPT.destinationApic),
        destinationPin: u8(INTERRUPT.destinationPin),
      };
  }
}

function checkEntries(entries: readonly MpEntry[], problems: string[]): void {
  const processors = entries.filter((entry) => entry.type === 'processor');
  const bootstrap = processors.filter((cpu) => cpu.bootstrap);
  if (bootstrap.length !== 1) {
    problems.push(`MP configuration table: ${bootstrap.length} processors have the BSP flag (expected 1)`);
  }
  const ioApics = entries.filter((entry) => entry.type === 'io-apic');
  const ids = [...processors.map((cpu) => cpu.apicId), ...ioApics.map((apic) => apic.id)];
  const duplicate = ids.find((id, i) => ids.indexOf(id) !== i);
  if (duplicate !== undefined) problems.push(`MP configuration table: APIC id ${duplicate} is used twice`);
  if (ids.includes(0xff)) problems.push('MP configuration table: an APIC id is 255, the broadcast id');
  const buses = new Set(entries.filter((entry) => entry.type === 'bus').map((bus) => bus.id));
  for (const entry of entries) {
    if (entry.type !== 'io-interrupt') continue;
    if (!buses.has(entry.sourceBus)) {
      problems.push(
        `MP configuration table: the source of IRQ ${entry.sourceIrq} is bus ${entry.sourceBus}, which has no entry`,
      );
    }
    if (!ioApics.some((apic) => apic.id === entry.destinationApic)) {
      problems.push(
        `MP configuration table: the destination of IRQ ${entry.sourceIrq} is I/O APIC ${entry.destinationApic}, which has no entry`,
      );
    }
  }
}
