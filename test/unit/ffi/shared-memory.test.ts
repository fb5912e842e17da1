import { expect, test } from 'bun:test';
import { fstatSync } from 'node:fs';
import { setFileLength } from '../../../src/ffi/block-file.ts';
import { ERRNO } from '../../../src/ffi/errno.ts';
import { MAP, Mapping, PROT } from '../../../src/ffi/mapping.ts';
import { releaseSharedMemory } from '../../../src/ffi/memory-advice.ts';
import { createSharedMemory } from '../../../src/ffi/shared-memory.ts';

const MIB = 2 ** 20;

function map(fd: number) {
  const prot = PROT.read | PROT.write;
  const mapping = new Mapping({ bytes: MIB, prot, flags: MAP.shared, fd, what: 'a test' });
  const bytes = new Uint8Array(mapping.view(0, MIB));
  return { mapping, bytes, [Symbol.dispose]: () => mapping[Symbol.dispose]() };
}

test('shared memory is the same to all that map it, and starts as zeroes that take no room', () => {
  using memory = createSharedMemory('test', MIB, false);
  using one = map(memory.fd);
  using other = map(memory.fd);
  expect(fstatSync(memory.fd).blocks).toBe(0);
  expect(other.bytes[5]).toBe(0);

  one.bytes[5] = 7;

  expect(other.bytes[5]).toBe(7);
});

test('nobody who has its descriptor can make it shorter or longer', () => {
  using memory = createSharedMemory('test', MIB, false);

  expect([setFileLength(memory.fd, 4096), setFileLength(memory.fd, 2 * MIB)]).toEqual([
    ERRNO.EPERM,
    ERRNO.EPERM,
  ]);
  expect(fstatSync(memory.fd).size).toBe(MIB);
});

test('what is released of it goes back to the host, and reads as zeroes to all', () => {
  using memory = createSharedMemory('test', MIB, false);
  using one = map(memory.fd);
  using other = map(memory.fd);
  one.bytes.fill(7);
  const before = fstatSync(memory.fd).blocks;

  releaseSharedMemory(one.mapping.address, MIB / 2);

  expect([before, fstatSync(memory.fd).blocks]).toEqual([MIB / 512, MIB / 1024]);
  expect([other.bytes[0], other.bytes[MIB / 2 - 1], other.bytes[MIB / 2]]).toEqual([0, 0, 7]);
});
