import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import type { FileLoad } from '../../../src/boot/boot-plan.ts';
import { guestAddress, MIB, PAGE_BYTES } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { GuestMemory, GuestMemoryError } from '../../../src/memory/guest-memory.ts';
import { applyLoad, applyWrites } from '../../../src/vmm/apply.ts';
import { openImage } from '../../../src/vmm/image-file.ts';
import { seededRandom } from '../support/random.ts';
import { voltErrorOf } from '../support/errors.ts';

const directory = mkdtempSync(join(tmpdir(), 'volt-apply-'));
const random = seededRandom(14);
const content = random.bytes(6 * PAGE_BYTES);
const path = join(directory, 'image');
writeFileSync(path, content);
const file = openImage(path, '--kernel');
afterAll(() => {
  file[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

function loadOf(address: number, fileOffset: number, fileBytes: number): FileLoad {
  return {
    name: 'kernel',
    file: 'kernel',
    fileOffset,
    fileBytes,
    address: guestAddress(address),
    memoryBytes: fileBytes + 2 * PAGE_BYTES,
  };
}

/** Loads, and compares everything from a page before to two pages behind with what should be there. */
function expectLoaded(load: FileLoad): void {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  applyLoad(memory, load, file);
  const expected = new Uint8Array(load.fileBytes + 3 * PAGE_BYTES);
  expected.set(content.subarray(load.fileOffset, load.fileOffset + load.fileBytes), PAGE_BYTES);
  expect(memory.read(guestAddress(load.address - PAGE_BYTES), expected.length)).toEqual(expected);
}

describe('applyLoad puts exactly the bytes of the file where they belong', () => {
  test.each([
    ['whole pages', MIB, 0, 3 * PAGE_BYTES],
    ['whole pages and a tail', MIB, PAGE_BYTES, 2 * PAGE_BYTES + 77],
    ['a ragged start, aligned alike', MIB + 100, 100, 3 * PAGE_BYTES],
    ['a ragged start that does not reach the next page', MIB + 100, 100, 50],
    ['a start and file offset that are aligned differently', MIB, 512, 3 * PAGE_BYTES],
    ['less than a page', MIB, 0, 10],
    ['nothing', MIB, 0, 0],
    ['everything to the end of the file', MIB + 1, 1, 6 * PAGE_BYTES - 1],
  ])('%s', (_, address, fileOffset, fileBytes) => {
    expectLoaded(loadOf(address, fileOffset, fileBytes));
  });

  test('of any alignment', () => {
    for (let i = 0; i < 100; i++) {
      const fileOffset = random.int(0, content.length);
      const fileBytes = random.int(0, content.length - fileOffset);
      const skew = random.pick([0, 0, 1, 512]);
      expectLoaded(loadOf(MIB + (fileOffset % PAGE_BYTES) + skew, fileOffset, fileBytes));
    }
  });
});

test('what the plan knows to be zero is not read, wherever it lies', () => {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  const zeroes = [
    { start: 0, end: 100 },
    { start: PAGE_BYTES + 1, end: 3 * PAGE_BYTES },
    { start: 5 * PAGE_BYTES, end: 6 * PAGE_BYTES },
  ];

  applyLoad(memory, { ...loadOf(MIB, 0, 6 * PAGE_BYTES), zeroes }, file);

  const expected = content.slice();
  for (const { start, end } of zeroes) expected.fill(0, start, end);
  expect(memory.read(guestAddress(MIB), expected.length)).toEqual(expected);
});

test('a file that was cut short since it was planned is told so', () => {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  const load = loadOf(MIB, 5 * PAGE_BYTES + 10, PAGE_BYTES);
  expect(voltErrorOf(() => applyLoad(memory, load, file))).toEqual({
    code: 'image',
    message: `Cannot load ${path}: it was cut short while Volt read it (expected 10 more bytes)`,
  });
});

test('an image that lies in memory is copied', () => {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  const embedded = { ...bytesAsSource('embedded', content), fd: undefined, [Symbol.dispose]: () => {} };
  applyLoad(memory, loadOf(MIB, PAGE_BYTES, PAGE_BYTES + 5), embedded);
  expect(memory.read(guestAddress(MIB), PAGE_BYTES + 6)).toEqual(
    Uint8Array.of(...content.subarray(PAGE_BYTES, 2 * PAGE_BYTES + 5), 0),
  );
});

test('a load outside RAM is an error', () => {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  expect(() => applyLoad(memory, loadOf(32 * MIB - 100, 0, 200), file)).toThrow(GuestMemoryError);
});

test('writes go where they belong', () => {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  applyWrites(memory, [
    { name: 'a', address: guestAddress(0x500), bytes: Uint8Array.of(1, 2) },
    { name: 'b', address: guestAddress(0x502), bytes: Uint8Array.of(3) },
  ]);
  expect(memory.read(guestAddress(0x4ff), 5)).toEqual(Uint8Array.of(0, 1, 2, 3, 0));
});
