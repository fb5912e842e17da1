import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { PAGE_BYTES } from '../../../src/machine/address.ts';
import {
  bytesOfRuns,
  checkRuns,
  flattenLayers,
  intersectRuns,
  limitRuns,
  runsOfBits,
  subtractRuns,
  uniteRuns,
  type PageRun,
} from '../../../src/machine/page-runs.ts';
import { seededRandom } from '../support/random.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const P = PAGE_BYTES;
const run = (page: number, pages = 1): PageRun => [page * P, pages * P];

/** The page numbers of a set. */
const pagesOf = (runs: readonly PageRun[]) =>
  new Set(runs.flatMap(([offset, bytes]) => Array.from({ length: bytes / P }, (_, i) => offset / P + i)));
const runsOfPages = (pages: ReadonlySet<number>, most: number) => {
  const words = new Uint32Array(Math.ceil(most / 32));
  for (const page of pages) words[page >>> 5]! |= 1 << (page & 31);
  return runsOfBits(words, most);
};

describe('a set of pages is checked', () => {
  test.each([
    ['nothing', [], undefined],
    ['adjacent runs', [run(0), run(1)], undefined],
    ['the whole of RAM', [run(0, 8)], undefined],
    ['half a page', [[0, 100]], 'the run [0, 100] is not made of whole pages'],
    ['no page', [[0, 0]], 'the run [0, 0] is not made of whole pages'],
    ['a negative offset', [[-P, P]], 'the run [-4096, 4096] is not made of whole pages'],
    ['a fraction', [[0.5, P]], 'the run [0.5, 4096] is not made of whole pages'],
    ['an offset that no number holds', [[2 ** 60, P]], 'is not made of whole pages'],
    ['an overlap', [run(0, 2), run(1)], 'the run [4096, 4096] is not behind the one before it'],
    ['the wrong order', [run(3), run(1)], 'the run [4096, 4096] is not behind the one before it'],
    ['pages behind RAM', [run(7, 2)], 'the run [28672, 8192] is not in RAM, which has 32768 bytes'],
  ] as [string, PageRun[], string | undefined][])('%s', (_, runs, wrong) => {
    const found = checkRuns(runs, 8 * P);
    expect(found?.includes(wrong!)).toBe(wrong === undefined ? undefined : true);
  });
});

describe('bits become runs', () => {
  test.each([
    ['none', [0, 0], 64, []],
    ['all', [0xffff_ffff, 0xffff_ffff], 64, [run(0, 64)]],
    ['the first and the last', [1, 0x8000_0000], 64, [run(0), run(63)]],
    ['across words', [0x8000_0000, 3], 64, [run(31, 3)]],
    ['beyond the last page', [0xffff_ffff], 20, [run(0, 20)]],
    ['of a part of the second word', [0, 0xff], 36, [run(32, 4)]],
  ] as [string, number[], number, PageRun[]][])('%s', (_, words, pages, runs) => {
    expect(runsOfBits(Uint32Array.from(words), pages)).toEqual(runs);
  });

  test('from an offset on, as those of the second region', () => {
    expect(runsOfBits(Uint32Array.of(6), 32, 100 * P)).toEqual([run(101, 2)]);
  });
});

describe('few runs instead of many', () => {
  test('have the smallest gaps filled', () => {
    const runs = [run(0), run(2), run(10), run(12), run(100)];
    expect(limitRuns(runs, 3)).toEqual([run(0, 3), run(10, 3), run(100)]);
  });

  test('are one run at least', () => {
    expect(limitRuns([run(1), run(5), run(9)], 1)).toEqual([run(1, 9)]);
  });

  test('are the same where they were few', () => {
    expect(limitRuns([run(1), run(5)], 2)).toEqual([run(1), run(5)]);
  });
});

test('unions, cuts and differences agree with sets of page numbers', () => {
  const random = seededRandom(5);
  for (let i = 0; i < 300; i++) {
    const most = random.int(1, 150);
    const some = () => new Set(Array.from({ length: random.int(0, most) }, () => random.int(0, most - 1)));
    const [a, b] = [some(), some()];
    const [runsA, runsB] = [runsOfPages(a, most), runsOfPages(b, most)];
    const limit = random.int(1, 20);
    const limited = limitRuns(runsA, limit);

    expect(pagesOf(runsA)).toEqual(a);
    expect(pagesOf(uniteRuns(runsA, runsB))).toEqual(a.union(b));
    expect(pagesOf(intersectRuns(runsA, runsB))).toEqual(a.intersection(b));
    expect(pagesOf(subtractRuns(runsA, runsB))).toEqual(a.difference(b));
    expect(a.isSubsetOf(pagesOf(limited))).toBe(true);
    expect(limited.length).toBeLessThanOrEqual(Math.max(limit, 0));
    expect(checkRuns(limited, most * P)).toBeUndefined();
    expect(bytesOfRuns(runsA)).toBe(a.size * P);
  }
});

describe('layers on each other', () => {
  test('are what the newest says of each page', () => {
    const layers = [{}, { runs: [run(2, 4)] }, { runs: [run(3), run(7)] }];
    const pieces = flattenLayers(10 * P, layers).map(({ offset, bytes, layer }) => [
      offset / P,
      bytes / P,
      layer,
    ]);
    expect(pieces).toEqual([
      [0, 2, 0],
      [2, 1, 1],
      [3, 1, 2],
      [4, 2, 1],
      [6, 1, 0],
      [7, 1, 2],
      [8, 2, 0],
    ]);
  });

  test('of which one is whole hide all below it', () => {
    expect(flattenLayers(4 * P, [{}, { runs: [run(1)] }, {}])).toEqual([
      { offset: 0, bytes: 4 * P, layer: 2 },
    ]);
  });

  test('that are random agree with a map of pages', () => {
    const random = seededRandom(6);
    for (let i = 0; i < 100; i++) {
      const most = random.int(1, 100);
      const layers = Array.from({ length: random.int(0, 10) }, () => ({
        runs: runsOfPages(
          new Set(Array.from({ length: random.int(0, most) }, () => random.int(0, most - 1))),
          most,
        ),
      }));
      const model = Array.from({ length: most }, (_, page) =>
        layers.reduce((top, { runs }, layer) => (pagesOf(runs).has(page) ? layer + 1 : top), 0),
      );

      const pieces = flattenLayers(most * P, [{}, ...layers]);

      const flat = pieces.flatMap(({ bytes, layer }) => Array.from({ length: bytes / P }, () => layer));
      expect(flat).toEqual(model);
      expect(bytesOfRuns(pieces.map(({ offset, bytes }) => [offset, bytes]))).toBe(most * P);
    }
  });
});
