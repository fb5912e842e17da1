/** Decodes a MADT and reports its errors. (ACPI 6.5 §5.2.12) */
import { viewOf } from '../binary/bytes.ts';
import {
  ALL_UIDS,
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
} from './acpi.layout.ts';
import { readEntries, findDuplicates, type Entry } from './read-entries.ts';

export interface MadtProcessor {
  /** The structure that describes it: local APIC or local x2APIC. */
  readonly kind: 'apic' | 'x2apic';
  readonly uid: number;
  readonly apicId: number;
  readonly enabled: boolean;
  readonly onlineCapable: boolean;
}

export interface MadtContents {
  readonly localApicAddress: number;
  /** PCAT_COMPAT: there are two 8259s. */
  readonly pcAt: boolean;
  readonly processors: readonly MadtProcessor[];
  readonly ioApics: readonly { readonly id: number; readonly address: number; readonly firstGsi: number }[];
  readonly overrides: readonly {
    readonly irq: number;
    readonly gsi: number;
    readonly edge: boolean;
    readonly activeHigh: boolean;
  }[];
  /** NMI inputs, by the kind of structure. */
  readonly nmis: readonly { readonly kind: 'apic' | 'x2apic'; readonly uid: number; readonly lint: number }[];
}

const SIZES = {
  [MADT_TYPE.localApic]: LOCAL_APIC.size,
  [MADT_TYPE.ioApic]: IO_APIC.size,
  [MADT_TYPE.interruptOverride]: INTERRUPT_OVERRIDE.size,
  [MADT_TYPE.localApicNmi]: LOCAL_APIC_NMI.size,
  [MADT_TYPE.localX2apic]: LOCAL_X2APIC.size,
  [MADT_TYPE.localX2apicNmi]: LOCAL_X2APIC_NMI.size,
} as const;

/** `table` includes the header and has at least MADT.size bytes. */
export function readMadt(table: Uint8Array, problems: string[]): MadtContents {
  const view = viewOf(table);
  const entries = readEntries('MADT', table, MADT.size, SIZES, problems);
  const ofType = (type: number) => entries.filter((entry) => entry.type === type);
  const contents: MadtContents = {
    localApicAddress: view.getUint32(MADT.localApicAddress, true),
    pcAt: (view.getUint32(MADT.flags, true) & MADT_FLAG_PC_AT) !== 0,
    processors: entries.flatMap(readProcessor),
    ioApics: ofType(MADT_TYPE.ioApic).map((entry) => ({
      id: entry.view.getUint8(IO_APIC.id),
      address: entry.view.getUint32(IO_APIC.address, true),
      firstGsi: entry.view.getUint32(IO_APIC.firstGsi, true),
    })),
    overrides: ofType(MADT_TYPE.interruptOverride).map((entry) => {
      const flags = entry.view.getUint16(INTERRUPT_OVERRIDE.flags, true);
      return {
        irq: entry.view.getUint8(INTERRUPT_OVERRIDE.irq),
        gsi: entry.view.getUint32(INTERRUPT_OVERRIDE.gsi, true),
        edge: (flags & 0b1100) === INTERRUPT_FLAG.edge,
        activeHigh: (flags & 0b11) === INTERRUPT_FLAG.activeHigh,
      };
    }),
    nmis: entries.flatMap(readNmi),
  };
  checkMadt(contents, problems);
  return contents;
}

function readProcessor({ type, view }: Entry): MadtProcessor[] {
  if (type !== MADT_TYPE.localApic && type !== MADT_TYPE.localX2apic) return [];
  const old = type === MADT_TYPE.localApic;
  const flags = view.getUint32(old ? LOCAL_APIC.flags : LOCAL_X2APIC.flags, true);
  return [
    {
      kind: old ? 'apic' : 'x2apic',
      uid: old ? view.getUint8(LOCAL_APIC.uid) : view.getUint32(LOCAL_X2APIC.uid, true),
      apicId: old ? view.getUint8(LOCAL_APIC.apicId) : view.getUint32(LOCAL_X2APIC.apicId, true),
      enabled: (flags & LOCAL_APIC_FLAG.enabled) !== 0,
      onlineCapable: (flags & LOCAL_APIC_FLAG.onlineCapable) !== 0,
    },
  ];
}

function readNmi({ type, view }: Entry): MadtContents['nmis'] {
  if (type === MADT_TYPE.localApicNmi) {
    const [uid, lint] = [view.getUint8(LOCAL_APIC_NMI.uid), view.getUint8(LOCAL_APIC_NMI.lint)];
    return [{ kind: 'apic', uid, lint }];
  }
  if (type !== MADT_TYPE.localX2apicNmi) return [];
  const uid = view.getUint32(LOCAL_X2APIC_NMI.uid, true);
  return [{ kind: 'x2apic', uid, lint: view.getUint8(LOCAL_X2APIC_NMI.lint) }];
}

function checkMadt({ processors, ioApics, nmis }: MadtContents, problems: string[]): void {
  if (!processors.some((cpu) => cpu.enabled)) problems.push('MADT: no processor is enabled');
  for (const id of findDuplicates(processors.map((cpu) => cpu.apicId)))
    problems.push(`MADT: APIC id ${id} is used twice`);
  for (const uid of findDuplicates(processors.map((cpu) => cpu.uid)))
    problems.push(`MADT: processor UID ${uid} is used twice`);
  for (const cpu of processors) {
    if (cpu.enabled && cpu.onlineCapable)
      problems.push(`MADT: processor ${cpu.uid} is both enabled and online capable`);
    if (cpu.kind === 'apic' && (cpu.apicId === 0xff || cpu.uid === ALL_UIDS))
      problems.push(`MADT: processor ${cpu.uid} has the broadcast id 255 in a local APIC structure`);
    if (cpu.kind === 'x2apic' && cpu.apicId < 0xff && cpu.uid < ALL_UIDS)
      problems.push(
        `MADT: APIC id ${cpu.apicId} is in a local x2APIC structure (expected a local APIC structure below 255)`,
      );
  }
  if (ioApics.length === 0) problems.push('MADT: there is no I/O APIC');
  for (const kind of ['apic', 'x2apic'] as const) {
    const needed = processors.some((cpu) => cpu.kind === kind);
    if (needed && !nmis.some((nmi) => nmi.kind === kind))
      problems.push(
        `MADT: there is no NMI structure for the processors in local ${kind === 'apic' ? 'APIC' : 'x2APIC'} structures`,
      );
  }
}
