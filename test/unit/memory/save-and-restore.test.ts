import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, openSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { GIB, guestAddress, MIB, PAGE_BYTES } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import type { PageRun } from '../../../src/machine/page-runs.ts';
import { GuestMemory } from '../../../src/memory/guest-memory.ts';
import { writeMemory } from '../../../src/memory/memory-writer.ts';
import { releaseMemory } from '../../../src/ffi/memory-advice.ts';
import { copiedPages, usedPages } from '../../../src/memory/touched-pages.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';
import { LACKS_HUGE_PAGES } from '../support/huge-pages.ts';
import { seededRandom } from '../support/random.ts';
import { restoreFrom, saveTo } from './saved-memory.ts';

setDefaultTimeout(60_000);

const P = PAGE_BYTES;
const at = guestAddress;
const SMALL = ramRanges(32 * MIB);
const LARGE = ramRanges(5 * GIB);
const page = (value: number) => new Uint8Array(P).fill(value);

/** Writes random bytes at random places, and returns all content. */
function fillAtRandom(memory: GuestMemory, seed: number): Uint8Array {
  const random = seededRandom(seed);
  for (let i = 0; i < 60; i++)
    memory.write(at(random.int(0, 32 * MIB - 5000)), random.bytes(random.int(1, 5000)));
  return memory.read(at(0), 32 * MIB);
}

describe.each([
  ['private memory', {}, false],
  ['shared memory', { shared: true }, false],
  [`memory of hugetlb pages${LACKS_HUGE_PAGES}`, { hugepages: true }, LACKS_HUGE_PAGES !== ''],
  [
    `shared memory of hugetlb pages${LACKS_HUGE_PAGES}`,
    { hugepages: true, shared: true },
    LACKS_HUGE_PAGES !== '',
  ],
])('%s', (_, options, lacks) => {
  test.skipIf(lacks)('is the same after it was saved and restored', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(SMALL, options);
    const content = fillAtRandom(memory, 1);

    await saveTo(folder.at('memory'), memory);
    memory[Symbol.dispose]();
    using restored = restoreFrom(SMALL, [{ path: folder.at('memory') }], options);

    expect(readFileSync(folder.at('memory')).equals(content)).toBe(true);
    expect(Buffer.from(restored.read(at(0), 32 * MIB)).equals(content)).toBe(true);
  });

  test.skipIf(lacks)('is restored from layers, the newest first', async () => {
    using folder = new TemporaryFolder();
    const base = folder.at('base');
    const diff = folder.at('diff');
    const last = folder.at('last');
    const dirty: PageRun[] = [
      [P, 2 * P],
      [20 * MIB, P],
    ];
    const newest: PageRun[] = [[2 * P, P]];
    {
      using memory = new GuestMemory(SMALL, options);
      for (let i = 0; i < 8; i++) memory.write(at(i * P), page(1 + i));
      memory.write(at(20 * MIB), page(9));
      await saveTo(base, memory);
      memory.write(at(P), page(21));
      memory.write(at(2 * P), page(22));
      memory.write(at(20 * MIB), page(0));
      await saveTo(diff, memory, { runs: dirty });
      memory.write(at(2 * P), page(33));
      await saveTo(last, memory, { runs: newest });
    }

    using restored = restoreFrom(
      SMALL,
      [{ path: base }, { path: diff, runs: dirty }, { path: last, runs: newest }],
      options,
    );

    const first = (address: number) => restored.read(at(address), 1)[0];
    expect([0, 1, 2, 3, 7, 8].map((i) => first(i * P))).toEqual([1, 21, 33, 4, 8, 0]);
    expect(restored.read(at(20 * MIB), P)).toEqual(page(0));
  });
});

describe('a memory file', () => {
  test('has holes where nothing was written, and the length of RAM', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(LARGE);
    memory.write(at(5 * P), page(7));
    memory.write(at(4 * GIB + 3 * P), page(8));
    memory.write(at(100 * P), page(0));

    const written = await saveTo(folder.at('memory'), memory);

    const { size, blocks } = statSync(folder.at('memory'));
    using restored = restoreFrom(LARGE, [{ path: folder.at('memory') }]);
    // The last page is there whatever it holds.
    expect(written).toEqual({ bytesWritten: 3 * P, fileBytes: 5 * GIB });
    expect(size).toBe(5 * GIB);
    expect(blocks * 512).toBeLessThan(MIB);
    expect(restored.read(at(5 * P), P)).toEqual(page(7));
    expect(restored.read(at(4 * GIB + 3 * P), P)).toEqual(page(8));
  });

  test('of some pages has no others', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(LARGE);
    for (const address of [0, P, 2 * P, 4 * GIB]) memory.write(at(address), page(5));

    const runs: PageRun[] = [
      [P, P],
      [3 * GIB - P, 2 * P],
    ];
    const written = await saveTo(folder.at('memory'), memory, { runs });

    expect(written.bytesWritten).toBe(3 * P);
  });

  test('that is overwritten gets zeroes where pages became zero', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(SMALL);
    memory.write(at(0), page(5));
    memory.write(at(P), page(5));
    await saveTo(folder.at('memory'), memory);
    memory.write(at(P), page(0));
    const fd = openSync(folder.at('memory'), 'r+');

    await writeMemory(memory, fd, { runs: [[P, P]], overwrite: true });
    closeSync(fd);

    const file = readFileSync(folder.at('memory'));
    expect([file[0], file[P], file.length]).toEqual([5, 0, 32 * MIB]);
  });

  test('is refused in words when it is cut short, or longer than RAM', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('memory', '');
    truncateSync(path, 16 * MIB);

    expect(() => restoreFrom(SMALL, [{ path }])).toThrow(
      `Cannot restore the guest's memory: ${path} has 16777216 bytes (expected 33554432, as RAM has)`,
    );
  });
});

describe('progress', () => {
  test('ends with all bytes, the zeroes included', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(SMALL);
    memory.write(at(0), page(1));
    const seen: [number, number][] = [];

    await saveTo(folder.at('memory'), memory, { onProgress: (done, total) => seen.push([done, total]) });

    expect(seen.at(-1)).toEqual([32 * MIB, 32 * MIB]);
  });
});

describe('writing that does not succeed', () => {
  test('says in one line that the disk is full', async () => {
    using memory = new GuestMemory(SMALL);
    const full = openSync('/dev/full', 'w');

    const failure = writeMemory(memory, full);

    await expect(failure).rejects.toThrow(
      "Cannot write the guest's memory: pwrite failed: ENOSPC (no space left on the device); free space there, or choose another directory",
    );
    closeSync(full);
  });

  test('ends with the reason of the signal, before and in the middle', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(ramRanges(256 * MIB));
    for (let i = 0; i < 256; i++) memory.write(at(i * MIB), new Uint8Array(MIB).fill(i + 1));
    const controller = new AbortController();

    const early = saveTo(folder.at('early'), memory, { signal: AbortSignal.abort(new Error('no')) });
    const middle = saveTo(folder.at('middle'), memory, { signal: controller.signal });
    controller.abort(new Error('enough'));

    await expect(early).rejects.toThrow('no');
    await expect(middle).rejects.toThrow('enough');
  });
});

describe('a restored memory', () => {
  test('does not change the file, and clones do not see each other', async () => {
    using folder = new TemporaryFolder();
    const path = folder.at('memory');
    {
      using memory = new GuestMemory(SMALL);
      memory.write(at(0), page(1));
      await saveTo(path, memory);
    }
    using one = restoreFrom(SMALL, [{ path }]);
    using two = restoreFrom(SMALL, [{ path }]);

    one.write(at(0), page(2));
    two.write(at(P), page(3));

    const file = readFileSync(path);
    expect([one, two].map((memory) => [memory.read(at(0), 1)[0], memory.read(at(P), 1)[0]])).toEqual([
      [2, 0],
      [1, 3],
    ]);
    expect([file[0], file[P]]).toEqual([1, 0]);
  });

  test('is saved whole: what came from the file, what changed, and what became zero', async () => {
    using folder = new TemporaryFolder();
    {
      using memory = new GuestMemory(SMALL);
      for (let i = 0; i < 4; i++) memory.write(at(i * P), page(i + 1));
      await saveTo(folder.at('first'), memory);
    }
    using restored = restoreFrom(SMALL, [{ path: folder.at('first') }]);
    restored.write(at(P), page(50));
    restored.write(at(2 * P), page(0));
    restored.write(at(9 * P), page(60));

    await saveTo(folder.at('second'), restored);

    const file = readFileSync(folder.at('second'));
    expect([0, 1, 2, 3, 4, 9].map((i) => file[i * P])).toEqual([1, 50, 0, 4, 0, 60]);
  });

  test('knows the pages that were written since, which reading does not change', async () => {
    using folder = new TemporaryFolder();
    {
      using memory = new GuestMemory(SMALL);
      for (let i = 0; i < 8; i++) memory.write(at(i * P), page(i + 1));
      await saveTo(folder.at('memory'), memory);
    }
    using restored = restoreFrom(SMALL, [{ path: folder.at('memory') }]);
    const untouched = copiedPages(restored);
    restored.read(at(0), 32 * MIB);
    const onlyRead = copiedPages(restored);
    restored.write(at(2 * P), page(2));
    restored.write(at(20 * MIB), page(9));
    const written = copiedPages(restored);
    releaseMemory(restored.regions[0]!.host + 20 * MIB, P);

    expect([untouched, onlyRead]).toEqual([[], []]);
    expect(written).toEqual([
      [2 * P, P],
      [20 * MIB, P],
    ]);
    expect(copiedPages(restored)).toEqual([[2 * P, P]]);
  });

  test('does not know them where RAM is no mapping of files', async () => {
    using folder = new TemporaryFolder();
    using memory = new GuestMemory(SMALL);
    await saveTo(folder.at('memory'), memory);
    using shared = restoreFrom(SMALL, [{ path: folder.at('memory') }], { shared: true });

    expect([copiedPages(memory), copiedPages(shared)]).toEqual([undefined, undefined]);
  });

  test('is nowhere in memory before it is touched', async () => {
    using folder = new TemporaryFolder();
    {
      using memory = new GuestMemory(SMALL);
      for (let i = 0; i < 16; i++) memory.write(at(i * MIB), new Uint8Array(MIB).fill(9));
      await saveTo(folder.at('memory'), memory);
    }

    using restored = restoreFrom(SMALL, [{ path: folder.at('memory') }]);

    const { host } = restored.regions[0]!;
    const smaps = readFileSync('/proc/self/smaps', 'utf8');
    const mapping = smaps.slice(smaps.indexOf(`${host.toString(16)}-`));
    expect(/Rss: +(\d+) kB/.exec(mapping)?.[1]).toBe('0');
  });

  test('has its pages of too many pieces read instead of mapped', async () => {
    using folder = new TemporaryFolder();
    const runs = Array.from({ length: 6000 }, (_, i): PageRun => [2 * i * P, P]);
    const ranges = ramRanges(64 * MIB);
    {
      using memory = new GuestMemory(ranges);
      for (const [offset] of runs) memory.write(at(offset + P), page(1));
      await saveTo(folder.at('base'), memory);
      for (const [offset] of runs) memory.write(at(offset), page(2));
      await saveTo(folder.at('diff'), memory, { runs });
    }
    const mappings = () => readFileSync('/proc/self/maps', 'utf8').split('\n').length;
    const before = mappings();

    using restored = restoreFrom(ranges, [{ path: folder.at('base') }, { path: folder.at('diff'), runs }]);

    const added = mappings() - before;
    const values = new Set(
      runs.map(([offset]) => `${restored.read(at(offset), 1)[0]}${restored.read(at(offset + P), 1)[0]}`),
    );
    expect(added).toBeLessThan(2 * 4096 + 100);
    expect(values).toEqual(new Set(['21']));
  });
});

test('pages that nobody touched are not among those to read', () => {
  using memory = new GuestMemory(LARGE);
  memory.write(at(4 * GIB + 10 * MIB), page(1));

  const used = usedPages(memory);

  expect(
    used.some(([offset, bytes]) => offset <= 3 * GIB + 10 * MIB && offset + bytes > 3 * GIB + 10 * MIB),
  ).toBe(true);
  expect(used.reduce((sum, [, bytes]) => sum + bytes, 0)).toBeLessThanOrEqual(2 * MIB);
});
