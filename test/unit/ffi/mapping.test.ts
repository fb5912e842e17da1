import { expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { MAP, mapMemory, Mapping, PROT } from '../../../src/ffi/mapping.ts';
import { createSharedMemory } from '../../../src/ffi/shared-memory.ts';

const ANONYMOUS = {
  prot: PROT.read | PROT.write,
  flags: MAP.private | MAP.anonymous | MAP.noReserve,
  what: 'a test',
};

test('a mapping is seen through its views', () => {
  using mapping = new Mapping({ ...ANONYMOUS, bytes: 8192 });
  new Uint8Array(mapping.view(4096, 16)).fill(7);
  expect([...new Uint8Array(mapping.view(4094, 4))]).toEqual([0, 0, 7, 7]);
});

test.each([
  [-1, 1],
  [0, -1],
  [0, 8193],
  [8192, 1],
])('a view from %p of %p bytes is outside', (offset, bytes) => {
  using mapping = new Mapping({ ...ANONYMOUS, bytes: 8192 });
  expect(() => mapping.view(offset, bytes)).toThrow(
    `Cannot view ${bytes} bytes at ${offset} of a mapping (expected a range within 8192 bytes)`,
  );
});

test('a mapping is given back once', () => {
  const mapping = new Mapping({ ...ANONYMOUS, bytes: 4096 });
  mapping[Symbol.dispose]();
  expect(() => mapping[Symbol.dispose]()).not.toThrow();
});

test('more than the address space holds is ENOMEM with advice', () => {
  expect(() => mapMemory({ ...ANONYMOUS, bytes: 2 ** 50 })).toThrow(
    `mmap of ${2 ** 50} bytes for a test failed: ENOMEM (out of memory); give the guest less --memory, or raise ulimit -v`,
  );
});

test('huge pages that are not there are ENOMEM with advice of their own', () => {
  const flags = MAP.private | MAP.anonymous | MAP.hugeTlb;
  expect(() => mapMemory({ ...ANONYMOUS, flags, bytes: 2 ** 46 })).toThrow(
    'ENOMEM (out of memory); reserve 2 MiB pages first (sysctl vm.nr_hugepages) or leave out --hugepages',
  );
});

test('nonsense is EINVAL, without advice', () => {
  expect(() => mapMemory({ ...ANONYMOUS, bytes: 0 })).toThrow(
    /^mmap of 0 bytes for a test failed: EINVAL \(invalid argument\)$/,
  );
});

test('a mapping can be aligned; nothing is left of the rest', () => {
  const alignment = 2 ** 21;
  const before = mappings();
  using mapping = new Mapping({ ...ANONYMOUS, bytes: 3 * 4096, alignment });

  const [own] = mappings().filter((line) => line.startsWith(`${mapping.address.toString(16)}-`));
  expect(mapping.address % alignment).toBe(0);
  expect(own).toStartWith(`${mapping.address.toString(16)}-${(mapping.address + 3 * 4096).toString(16)} `);
  expect(mappings().length - before.length).toBeLessThan(3);
});

test('an aligned mapping of a file begins where it is to begin', () => {
  const pages = 4;
  using memory = createSharedMemory('a test', pages * 4096, false);
  using plain = new Mapping({ ...ANONYMOUS, flags: MAP.shared, fd: memory.fd, bytes: pages * 4096 });
  for (let page = 0; page < pages; page++) new Uint8Array(plain.view(page * 4096, 1))[0] = page + 1;

  const request = { ...ANONYMOUS, flags: MAP.shared, fd: memory.fd, alignment: 2 ** 21 };
  using all = new Mapping({ ...request, bytes: pages * 4096 });
  using last = new Mapping({ ...request, fileOffset: 3 * 4096, bytes: 4096 });

  const starts = Array.from({ length: pages }, (_, page) => new Uint8Array(all.view(page * 4096, 1))[0]);
  expect(starts).toEqual([1, 2, 3, 4]);
  expect(new Uint8Array(last.view(0, 1))[0]).toBe(4);
});

function mappings(): string[] {
  return readFileSync('/proc/self/maps', 'utf8').split('\n');
}
