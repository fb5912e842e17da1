/** Resource descriptors, and the buffer that _CRS returns. (ACPI 6.5 §6.4) */
import { buffer } from './aml.ts';
import { concat, littleEndian, type Aml } from './aml-encoding.ts';

/** §6.4.2.5, I/O port descriptor */
const IO_PORT_TAG = 0x47;
const DECODE_16_BITS = 1;
/** §6.4.3.4, 32-bit fixed memory range descriptor */
const FIXED_MEMORY_TAG = 0x86;
const READ_WRITE = 1;
/** §6.4.3.5, address space descriptors */
const DWORD_ADDRESS_TAG = 0x87;
const WORD_ADDRESS_TAG = 0x88;
const QWORD_ADDRESS_TAG = 0x8a;
const RESOURCE_TYPE = { memory: 0, busNumbers: 2 } as const;
/** For the devices behind a bridge, with fixed minimum and maximum. */
const PRODUCER_FIXED = 0b1100;
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

/** The numbers of the buses below a host bridge. */
export function busNumbers(first: number, last: number): Aml {
  return addressSpace(WORD_ADDRESS_TAG, 2, RESOURCE_TYPE.busNumbers, 0, first, last);
}

/** Memory that a host bridge passes on to its bus: read-write, not cacheable. */
export function memoryWindow(address: number, bytes: number): Aml {
  const last = address + bytes - 1;
  const [tag, width] = last < 2 ** 32 ? [DWORD_ADDRESS_TAG, 4] : [QWORD_ADDRESS_TAG, 8];
  return addressSpace(tag, width, RESOURCE_TYPE.memory, READ_WRITE, address, last);
}

function addressSpace(
  tag: number,
  width: number,
  type: number,
  flags: number,
  first: number,
  last: number,
): Aml {
  const [granularity, translation] = [0, 0];
  const fields = [granularity, first, last, translation, last - first + 1];
  return large(tag, [type, PRODUCER_FIXED, flags, ...fields.flatMap((each) => littleEndian(each, width))]);
}

/** A large resource item: tag, 16-bit length, content. (§6.4.3) */
function large(tag: number, content: Aml): Aml {
  return [tag, ...littleEndian(content.length, 2), ...content];
}
