/** Resource descriptors and the template that holds them. (ACPI 6.5 §6.4) */
import { viewOf } from '../binary/bytes.ts';
import { buffer, concat, type Aml } from './aml.ts';

/** §6.4.2.5, I/O port descriptor, 16-bit decode. */
const IO_PORT = { tag: 0x47, decode16: 0x01, alignment: 1, size: 8 } as const;
/** §6.4.3.4, 32-bit fixed memory range. */
const FIXED_MEMORY = { tag: 0x86, length: 9, readWrite: 0x01, base: 4, bytes: 8, size: 12 } as const;
/** §6.4.3.6, extended interrupt. */
const INTERRUPT = { tag: 0x89, length: 6, consumer: 0x01, edge: 0x02, size: 9 } as const;
/** §6.4.2.9. A checksum of 0 is one that need not be checked. */
const END_TAG = Uint8Array.of(0x79, 0x00);

export function resourceTemplate(...descriptors: readonly Uint8Array[]): Aml {
  return buffer(concat(...descriptors, END_TAG));
}

export function ioPorts(first: number, count: number): Uint8Array {
  const descriptor = new Uint8Array(IO_PORT.size);
  const view = viewOf(descriptor);
  descriptor[0] = IO_PORT.tag;
  descriptor[1] = IO_PORT.decode16;
  view.setUint16(2, first, true);
  view.setUint16(4, first, true);
  descriptor[6] = IO_PORT.alignment;
  descriptor[7] = count;
  return descriptor;
}

/** Read-write memory below 4 GiB. */
export function fixedMemory(address: number, bytes: number): Uint8Array {
  const descriptor = new Uint8Array(FIXED_MEMORY.size);
  const view = viewOf(descriptor);
  descriptor[0] = FIXED_MEMORY.tag;
  view.setUint16(1, FIXED_MEMORY.length, true);
  descriptor[3] = FIXED_MEMORY.readWrite;
  view.setUint32(FIXED_MEMORY.base, address, true);
  view.setUint32(FIXED_MEMORY.bytes, bytes, true);
  return descriptor;
}

/** One global system interrupt, edge-triggered, active high, not shared: what every device of the board has. */
export function edgeInterrupt(gsi: number): Uint8Array {
  const descriptor = new Uint8Array(INTERRUPT.size);
  const view = viewOf(descriptor);
  descriptor[0] = INTERRUPT.tag;
  view.setUint16(1, INTERRUPT.length, true);
  descriptor[3] = INTERRUPT.consumer | INTERRUPT.edge;
  descriptor[4] = 1;
  view.setUint32(5, gsi, true);
  return descriptor;
}
