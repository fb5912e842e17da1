/** Core files by their bytes. test/guest/gdb.test.ts has a real gdb read one. */
import { describe, expect, test } from 'bun:test';
import { buildCore } from '../../../src/gdb/core-file.ts';
import { CORE_HEADER, SEGMENT_HEADER } from '../../../src/gdb/core.layout.ts';
import { vmcoreinfoBytes } from '../../../src/gdb/vmcoreinfo.ts';

const LOW = { address: 0, bytes: 0x10_0000, offset: 0 };
const HIGH = { address: 0x1_0000_0000, bytes: 0x10_0000, offset: 0x10_0000 };
const NOTE = { name: 'CORE', type: 1, data: Uint8Array.of(1, 2, 3) };

function segmentsIn(head: Uint8Array) {
  const view = new DataView(head.buffer);
  const count = view.getUint16(CORE_HEADER.phnum, true);
  return Array.from({ length: count }, (_, i) => {
    const at = CORE_HEADER.size + i * SEGMENT_HEADER.size;
    const field = (offset: number) => view.getBigUint64(at + offset, true);
    return {
      type: view.getUint32(at, true),
      offset: Number(field(SEGMENT_HEADER.offset)),
      linear: field(SEGMENT_HEADER.vaddr),
      physical: Number(field(SEGMENT_HEADER.paddr)),
      bytes: Number(field(SEGMENT_HEADER.filesz)),
    };
  });
}

describe('the head of a core file', () => {
  test('is an ELF core for x86-64 whose notes are padded, and fills pages', () => {
    const { head, segments } = buildCore([LOW], undefined, [NOTE]);

    const notesAt = CORE_HEADER.size + 2 * SEGMENT_HEADER.size;
    expect(Buffer.from(head.subarray(0, 20)).toString('hex')).toBe(
      '7f454c46020101000000000000000000' + '04003e00',
    );
    expect(head.length).toBe(0x1000);
    expect(segments).toBe(1);
    expect(segmentsIn(head)).toEqual([
      { type: 4, offset: notesAt, linear: 0n, physical: 0, bytes: 24 },
      { type: 1, offset: 0x1000, linear: 0n, physical: 0, bytes: 0x10_0000 },
    ]);
    expect(Buffer.from(head.subarray(notesAt, notesAt + 24)).toString('hex')).toBe(
      '05000000' + '03000000' + '01000000' + '434f524500000000' + '01020300',
    );
  });

  test('has mappings where they are in RAM, and all of RAM that no mapping covers', () => {
    const direct = { linear: 0xffff_8880_0000_0000n, physical: 0, bytes: 0x10_0000 };
    const device = { linear: 0xffff_c900_0000_0000n, physical: 0xfee0_0000, bytes: 0x1000 };
    const across = { linear: 0xffff_d000_0000_0000n, physical: 0xffff_f000, bytes: 0x2000 };

    const { head } = buildCore([LOW, HIGH], [direct, device, across], [NOTE]);

    expect(segmentsIn(head).slice(1)).toEqual([
      { type: 1, offset: 0x10_1000, linear: 0x1_0000_0000n, physical: 0x1_0000_0000, bytes: 0x10_0000 },
      { type: 1, offset: 0x1000, linear: 0xffff_8880_0000_0000n, physical: 0, bytes: 0x10_0000 },
      { type: 1, offset: 0x10_1000, linear: 0xffff_d000_0000_1000n, physical: 0x1_0000_0000, bytes: 0x1000 },
    ]);
  });
});

describe('VMCOREINFO', () => {
  const note = (text: string, changes: Readonly<Record<number, number>> = {}) => {
    const page = new Uint8Array(4096);
    const view = new DataView(page.buffer);
    view.setUint32(0, 11, true);
    view.setUint32(4, text.length, true);
    page.set(Buffer.from('VMCOREINFO'), 12);
    page.set(Buffer.from(text), 24);
    for (const [at, byte] of Object.entries(changes)) page[Number(at)] = byte;
    return page;
  };

  test('is a note at the start of a page whose text starts with the release', () => {
    expect(vmcoreinfoBytes(note('OSRELEASE=6.1.0\n'))).toBe(16);
  });

  test.each([
    ['of another name', note('OSRELEASE=6.1.0\n', { 12: 0x57 })],
    ['of another type', note('OSRELEASE=6.1.0\n', { 8: 1 })],
    ['with another text', note('RELEASE=6.1.0\n')],
    ['longer than its page', note('OSRELEASE=6.1.0\n', { 5: 0x10 })],
    ['without a length', note('OSRELEASE=6.1.0\n', { 4: 0 })],
  ])('is not one %s', (_, page) => {
    expect(vmcoreinfoBytes(page)).toBeUndefined();
  });
});
