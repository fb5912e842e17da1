/** Resource descriptors, and the buffer that _CRS returns. (ACPI 6.5 §6.4) */
import { buffer } from './aml.ts';
import { concat, littleEndian, type Aml } from './aml-encoding.ts';

/** §6.4.2.5, I/O port descriptor */
const IO_PORT_TAG = 0x47;
const DECODE_16_BITS = 1;
/** §6.4.3.4, 32-bit fixed memory range descriptor */
const FIXED_MEMORY_TAG = 0x86;
const READ_WRITE = 1;
/** §6.4.3.6, extended interrupt descriptor */
const INTERRUPT_TAG = 0x89;
const CONSUMER_BIT = 1 << 0;
const EDGE_BIT = 1 << 1;
/** §6.4.2.9, end tag; a checksum of 0 is not checked. */
const END: Aml = [0x79, 0x00];

export function resourceTemplate(...descriptors: readonly Aml[]): Aml {
  return buffer(concat(...descriptors, END));
}

export function ioPorts(first: number, count: number): Aml {
  const address = littleEndian(first, 2);
  const alignment = 1;
  return [IO_PORT_TAG, DECODE_16_BITS, ...address, ...address, alignment, count];
}

/** Read-write memory below 4 GiB, such as a register window. */
export function fixedMemory(address: number, bytes: number): Aml {
  return large(FIXED_MEMORY_TAG, [READ_WRITE, ...littleEndian(address, 4), ...littleEndian(bytes, 4)]);
}

/**
 * One global system interrupt: edge-triggered, active high, exclusive, as all devices of the board have it.
 */
export function edgeInterrupt(gsi: number): Aml {
  const count = 1;
  return large(INTERRUPT_TAG, [CONSUMER_BIT | EDGE_BIT, count, ...littleEndian(gsi, 4)]);
}

/** A large resource item: tag, 16-bit length, content. (§6.4.3) */
function large(tag: number, content: Aml): Aml {
  return [tag, ...littleEndian(content.length, 2), ...content];
}
