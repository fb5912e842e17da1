/**
 * MP floating pointer and configuration table, from which kernels without ACPI enumerate processors.
 * (MultiProcessor Specification 1.4, chapter 4)
 *
 * Size: a header of 44 bytes, 20 for each CPU, 8 for the ISA bus, 8 for the I/O APIC and 8 for each of 16 ISA
 * interrupts, which is 208 + 20 × (n − 1) bytes. Volt reports this plus the 16 bytes of the floating pointer:
 * 224, 244 and 284 for 1, 2 and 4 CPUs. The header's "base table length" excludes the floating pointer.
 *
 * Entries: 18 + n, as in the reference table that test/vectors/mp-table reproduces. It has no local interrupt
 * assignment entries (type 4, §4.3.5), which would say that LINT0 is ExtINT and LINT1 is NMI. Guests do
 * without them: Linux only prints these entries (mpparse.c), and Volt programs LINT0 and LINT1 of the local
 * APICs as firmware would (kvm/vcpu.ts), so a guest that keeps what it finds, or sets the usual modes, is
 * right.
 */
import { putAscii, viewOf } from '../binary/bytes.ts';
import { checksumByte } from '../binary/checksum.ts';
import { offsetAddress, type GuestAddress } from '../machine/address.ts';
import { IOAPIC_VERSION, ISA_IRQ_COUNT, LOCAL_APIC_VERSION } from '../machine/irqs.ts';
import { LAYOUT } from '../machine/layout.ts';
import { VoltError } from '../volt-error.ts';
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
  REVISION_1_4,
  SIGNATURE,
} from './mp-table.layout.ts';

/** APIC ids have 8 bits; 255 is the broadcast id and one more belongs to the I/O APIC. (MPS 1.4 §3.6.4) */
export const MP_TABLE_MAX_CPUS = 254;

const OEM_ID = 'NOVAFLAR';
const PRODUCT_ID = 'VOLT VM     ';
/** Family 6, model 15, stepping 1; features up to SSE2. Informative: kernels ask CPUID instead. */
const CPU_SIGNATURE = 0x6f1;
const CPU_FEATURES = 0x0781_fbff;
/** Without PCI the ISA bus is 0, as in the reference table; a PCI bus has its own number as its id. (§4.3.4) */
const PCI_BUS_ID = 0;
const PCI_INTA = 0;

export interface MpTableInputs {
  /** Local APIC ids, in the order of the entries. */
  readonly apicIds: readonly number[];
  /** Index of the BSP in `apicIds`; default 0. */
  readonly bootCpu?: number;
  /**
   * Interrupt type of I/O APIC pin 0. 'extInt', as in the reference table: the 8259's output. 'int': IRQ 0,
   * the PIT. Linux needs 'int' where its first timer ticks come from the PIT: with 'extInt' no pin has IRQ 0
   * as INT, and check_timer() dereferences NULL (seen with 6.1). With a TSC-deadline timer Linux does not
   * call it.
   */
  readonly timer: 'extInt' | 'int';
  /** Interrupt of pin INTA# of each device of PCI bus 0, by its number; undefined: there is no PCI bus. */
  readonly pciPins?: ReadonlyMap<number, number> | undefined;
}

export interface MpTables {
  readonly floatingPointer: { readonly address: GuestAddress; readonly bytes: Uint8Array };
  readonly configTable: { readonly address: GuestAddress; readonly bytes: Uint8Array };
}

/** Builds both structures. Throws VoltError 'usage' for no CPU, and for APIC ids that do not fit 8 bits. */
export function buildMpTables(inputs: MpTableInputs): MpTables {
  const { apicIds } = inputs;
  const highest = Math.max(...apicIds);
  if (apicIds.length === 0) {
    throw new VoltError('usage', 'Cannot build MP tables for 0 CPUs (expected at least 1)');
  }
  if (apicIds.length > MP_TABLE_MAX_CPUS || highest >= MP_TABLE_MAX_CPUS) {
    throw new VoltError(
      'usage',
      `Cannot build MP tables for ${apicIds.length} CPUs with APIC ids up to ${highest} (expected at most ${MP_TABLE_MAX_CPUS} CPUs with ids below ${MP_TABLE_MAX_CPUS}, because MP tables have 8-bit ids)`,
    );
  }
  const configTable = buildConfigTable(inputs);
  const address = configTableAddress(configTable.length);
  return {
    floatingPointer: { address: LAYOUT.mpFloatingPointer.address, bytes: buildFloatingPointer(address) },
    configTable: { address, bytes: configTable },
  };
}

/**
 * After the floating pointer if it fits into the EBDA (41 CPUs), otherwise in the BIOS area. (§4: both are
 * legal)
 */
function configTableAddress(bytes: number): GuestAddress {
  const fits = bytes <= LAYOUT.mpConfigTable.bytes;
  return offsetAddress(fits ? LAYOUT.mpConfigTable.address : LAYOUT.biosArea.address, 0);
}

function buildFloatingPointer(configTable: GuestAddress): Uint8Array {
  const bytes = new Uint8Array(FLOATING_POINTER.size);
  const view = viewOf(bytes);
  putAscii(bytes, FLOATING_POINTER.signature, SIGNATURE.floatingPointer);
  view.setUint32(FLOATING_POINTER.configTable, configTable, true);
  bytes[FLOATING_POINTER.paragraphs] = FLOATING_POINTER.size / 16;
  bytes[FLOATING_POINTER.revision] = REVISION_1_4;
  // As in the reference table: PIC mode is implemented. The board has the IMCR (chips/imcr.ts).
  bytes[FLOATING_POINTER.feature2] = FEATURE2_IMCR;
  bytes[FLOATING_POINTER.checksum] = checksumByte(bytes);
  return bytes;
}

function buildConfigTable({ apicIds, timer, bootCpu = 0, pciPins }: MpTableInputs): Uint8Array {
  // The lowest id above all processors'.
  const ioApicId = Math.max(apicIds.length, ...apicIds.map((id) => id + 1));
  const isaBusId = pciPins ? PCI_BUS_ID + 1 : 0;
  const entries = [
    ...apicIds.map((apicId, i) => processorEntry(apicId, i === bootCpu)),
    ...(pciPins ? [busEntry(PCI_BUS_ID, 'PCI   ')] : []),
    busEntry(isaBusId, 'ISA   '),
    ioApicEntry(ioApicId),
    ...Array.from({ length: ISA_IRQ_COUNT }, (_, irq) =>
      interruptEntry(
        irq === 0 && timer === 'extInt' ? INTERRUPT_KIND.extInt : INTERRUPT_KIND.int,
        { bus: isaBusId, irq },
        { apic: ioApicId, pin: irq },
      ),
    ),
    ...[...(pciPins ?? [])].map(([device, pin]) =>
      interruptEntry(
        INTERRUPT_KIND.int,
        // The device's number in bits 6–2, its pin in bits 1–0. (MPS 1.4, appendix D.3)
        { bus: PCI_BUS_ID, irq: (device << 2) | PCI_INTA },
        { apic: ioApicId, pin },
      ),
    ),
  ];
  const table = new Uint8Array(CONFIG_HEADER.size + entries.reduce((sum, entry) => sum + entry.length, 0));
  const view = viewOf(table);
  putAscii(table, CONFIG_HEADER.signature, SIGNATURE.configTable);
  view.setUint16(CONFIG_HEADER.baseLength, table.length, true);
  table[CONFIG_HEADER.revision] = REVISION_1_4;
  putAscii(table, CONFIG_HEADER.oemId, OEM_ID);
  putAscii(table, CONFIG_HEADER.productId, PRODUCT_ID);
  view.setUint16(CONFIG_HEADER.entryCount, entries.length, true);
  view.setUint32(CONFIG_HEADER.localApicAddress, LAYOUT.localApic.address, true);
  let at: number = CONFIG_HEADER.size;
  for (const entry of entries) {
    table.set(entry, at);
    at += entry.length;
  }
  table[CONFIG_HEADER.checksum] = checksumByte(table);
  return table;
}

function processorEntry(apicId: number, bootstrap: boolean): Uint8Array {
  const entry = new Uint8Array(PROCESSOR.size);
  const view = viewOf(entry);
  entry[PROCESSOR.type] = ENTRY_TYPE.processor;
  entry[PROCESSOR.apicId] = apicId;
  entry[PROCESSOR.apicVersion] = LOCAL_APIC_VERSION;
  entry[PROCESSOR.flags] = PROCESSOR_FLAG.enabled | (bootstrap ? PROCESSOR_FLAG.bootstrap : 0);
  view.setUint32(PROCESSOR.signature, CPU_SIGNATURE, true);
  view.setUint32(PROCESSOR.features, CPU_FEATURES, true);
  return entry;
}

function busEntry(id: number, name: string): Uint8Array {
  const entry = new Uint8Array(BUS.size);
  entry[BUS.type] = ENTRY_TYPE.bus;
  entry[BUS.id] = id;
  putAscii(entry, BUS.name, name);
  return entry;
}

function ioApicEntry(id: number): Uint8Array {
  const entry = new Uint8Array(IO_APIC.size);
  entry[IO_APIC.type] = ENTRY_TYPE.ioApic;
  entry[IO_APIC.id] = id;
  entry[IO_APIC.version] = IOAPIC_VERSION;
  entry[IO_APIC.flags] = 1;
  viewOf(entry).setUint32(IO_APIC.address, LAYOUT.ioApic.address, true);
  return entry;
}

/** Polarity and trigger mode conform to the bus. (§4.3.4) */
function interruptEntry(
  kind: number,
  source: { readonly bus: number; readonly irq: number },
  destination: { readonly apic: number; readonly pin: number },
): Uint8Array {
  const entry = new Uint8Array(INTERRUPT.size);
  entry[INTERRUPT.type] = ENTRY_TYPE.ioInterrupt;
  entry[INTERRUPT.kind] = kind;
  entry[INTERRUPT.sourceBus] = source.bus;
  entry[INTERRUPT.sourceIrq] = source.irq;
  entry[INTERRUPT.destinationApic] = destination.apic;
  entry[INTERRUPT.destinationPin] = destination.pin;
  return entry;
}
