import { afterAll, describe, expect, test } from 'bun:test';
import { fstatSync, readFileSync, readSync } from 'node:fs';
import { GIB, guestAddress, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { GuestMemory, GuestMemoryError } from '../../../src/memory/guest-memory.ts';
import { seededRandom } from '../support/random.ts';

/** 3 GiB below the hole, 3 GiB above 4 GiB; the host gives only the pages that a test touches. */
const large = new GuestMemory(ramRanges(6 * GIB));
const at = guestAddress;
const pattern = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + 1) & 0xff);

afterAll(() => large[Symbol.dispose]());

describe('transparent huge pages', () => {
  test('are wanted from 16 MiB on, at host addresses that go with the guest addresses', () => {
    using memory = new GuestMemory(ramRanges(4 * GIB));
    const wanted = memory.regions.map(({ host }) => [
      host % (2 * MIB),
      flagsAt(host).includes('hg'),
      flagsAt(host + 16 * MIB - 1).includes('hg'),
      flagsAt(host + 16 * MIB).includes('hg'),
    ]);

    expect(wanted).toEqual([
      [0, false, false, true],
      [0, true, true, true],
    ]);
  });
});

describe('guest memory', () => {
  test('starts as zero', () => {
    expect(large.read(at(0x5000), 64)).toEqual(new Uint8Array(64));
  });

  test.each([
    ['at address 0', 0],
    ['in the last bytes below the hole', 3 * GIB - 100],
    ['in the first bytes above 4 GiB', 4 * GIB],
    ['in the last bytes of all', 7 * GIB - 100],
    ['across the window at 1 GiB', GIB - 50],
    ['across the window at 2 GiB', 2 * GIB - 1],
    ['across a window above 4 GiB', 5 * GIB - 99],
  ])('reads back what is written %s', (_, address) => {
    const bytes = pattern(100);
    large.write(at(address), bytes);
    expect(large.read(at(address), 100)).toEqual(bytes);
  });

  test('reads a copy, which later writes do not change', () => {
    large.write(at(0x6000), Uint8Array.of(1));
    const copy = large.read(at(0x6000), 1);
    large.write(at(0x6000), Uint8Array.of(2));
    expect(copy).toEqual(Uint8Array.of(1));
  });

  test('of 0 bytes is read at every address, its end included', () => {
    expect(large.read(at(0), 0).length).toBe(0);
    expect(large.read(at(7 * GIB), 0).length).toBe(0);
  });

  test('tells its regions with different host addresses', () => {
    const { regions } = large;
    expect(regions.map(({ address, bytes }) => [address as number, bytes])).toEqual([
      [0, 3 * GIB],
      [4 * GIB, 3 * GIB],
    ]);
    expect(regions[1]!.host).not.toBe(regions[0]!.host);
  });

  test('has host addresses that are as far apart as guest addresses', () => {
    const base = large.hostAddress(at(0), 1);
    expect(large.hostAddress(at(2 * GIB + 5), 1) - base).toBe(2 * GIB + 5);
    expect(large.hostAddress(at(4 * GIB), 1)).toBe(large.regions[1]!.host);
  });
});

describe('an access outside RAM is an error in words', () => {
  const OUTSIDE: [string, number, number][] = [
    ['one byte behind the low end', 3 * GIB, 1],
    ['across the low end', 3 * GIB - 1, 2],
    ['in the hole', 0xfee0_0000, 4],
    ['up to high memory', 4 * GIB - 1, 2],
    ['across the high end', 7 * GIB - 1, 2],
    ['far away', 2 ** 51, 1],
    ['with more bytes than there are addresses', 0, 2 ** 53],
    ['with a negative length', 0x1000, -1],
  ];

  test.each(OUTSIDE)('%s', (_, address, bytes) => {
    expect(() => large.read(at(address), bytes)).toThrow(GuestMemoryError);
    expect(() => large.hostAddress(at(address), bytes)).toThrow(GuestMemoryError);
  });

  test('that names the address and the length', () => {
    expect(() => large.write(at(3 * GIB), new Uint8Array(16))).toThrow(
      'Cannot write 16 bytes at guest address 0xc0000000 (expected a range within RAM)',
    );
  });

  test('and nothing of such a write happens', () => {
    large.write(at(3 * GIB - 2), Uint8Array.of(1, 2));
    expect(() => large.write(at(3 * GIB - 2), Uint8Array.of(7, 7, 7))).toThrow(GuestMemoryError);
    expect(large.read(at(3 * GIB - 2), 2)).toEqual(Uint8Array.of(1, 2));
  });
});

describe('shared memory', () => {
  test('is there under a descriptor for each region', () => {
    using memory = new GuestMemory(ramRanges(5 * GIB), { shared: true });
    memory.write(at(4 * GIB + 5), Uint8Array.of(7));

    const sizes = memory.regions.map((region) => fstatSync(region.fd!).size);
    const byte = Buffer.alloc(1);
    readSync(memory.regions[1]!.fd!, byte, 0, 1, 5);

    expect(sizes).toEqual([3 * GIB, 2 * GIB]);
    expect(byte[0]).toBe(7);
  });

  test('leaves no descriptor behind', () => {
    const memory = new GuestMemory(ramRanges(32 * MIB), { shared: true });
    const shared = memory.regions[0]!.fd!;
    memory[Symbol.dispose]();
    expect(() => fstatSync(shared)).toThrow('EBADF');
  });
});

test('memory that is not shared has no descriptor', () => {
  expect(large.regions.map((region) => region.fd)).toEqual([undefined, undefined]);
});

test('disposing gives every region back, once', () => {
  const memory = new GuestMemory(ramRanges(5 * GIB));
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  expect(memory.regions).toEqual([]);
  expect(() => memory.read(at(0), 1)).toThrow(GuestMemoryError);
});

test('random accesses agree with a plain array', () => {
  using memory = new GuestMemory(ramRanges(32 * MIB));
  const random = seededRandom(13);
  const model = new Uint8Array(64 * 1024);
  for (let i = 0; i < 500; i++) {
    const address = random.int(0, model.length - 1);
    const bytes = random.bytes(random.int(0, Math.min(300, model.length - address)));
    memory.write(at(address), bytes);
    model.set(bytes, address);
  }
  expect(memory.read(at(0), model.length)).toEqual(model);
});

/** The flags of the mapping with this address in it. (proc(5), smaps) */
function flagsAt(address: number): string[] {
  const mappings = readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const found = mappings.find((text) => {
    const [start, end] = text
      .split(' ', 1)[0]!
      .split('-')
      .map((hex) => Number.parseInt(hex, 16));
    return address >= start! && address < end!;
  });
  return (
    /^VmFlags: (.*)$/m
      .exec(found ?? '')?.[1]
      ?.trim()
      .split(' ') ?? []
  );
}
