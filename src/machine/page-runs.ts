/**
 * Sets of pages as runs: sorted, without overlap, in whole pages. Offsets are those of all regions of RAM one
 * after the other, which is how the memory files of a snapshot are laid out.
 */
import { PAGE_BYTES } from './address.ts';

/** Offset and length in bytes, both multiples of 4096. */
export type PageRun = readonly [offset: number, bytes: number];

/** A piece of RAM, and the newest layer that contains it. */
export interface LayerPiece {
  readonly offset: number;
  readonly bytes: number;
  readonly layer: number;
}

/** What is wrong with `runs` as a set of pages below `limit`; undefined: nothing. */
export function checkRuns(runs: readonly PageRun[], limit: number): string | undefined {
  let end = 0;
  for (const [offset, bytes] of runs) {
    if (!isPages(offset) || !isPages(bytes) || bytes === 0)
      return `the run [${offset}, ${bytes}] is not made of whole pages`;
    if (offset < end) return `the run [${offset}, ${bytes}] is not behind the one before it`;
    end = offset + bytes;
    if (end > limit) return `the run [${offset}, ${bytes}] is not in RAM, which has ${limit} bytes`;
  }
  return undefined;
}

function isPages(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value % PAGE_BYTES === 0;
}

/** Total bytes of `runs`. */
export function bytesOfRuns(runs: readonly PageRun[]): number {
  return runs.reduce((sum, [, bytes]) => sum + bytes, 0);
}

/**
 * The runs of the set bits of `words`: bit n is page n from `offset` on, as in the dirty log of KVM. Bits
 * from `pages` on are ignored.
 */
export function runsOfBits(words: Uint32Array, pages: number, offset = 0): PageRun[] {
  const runs: PageRun[] = [];
  let start = -1;
  const close = (end: number) => {
    if (start >= 0) runs.push([offset + start * PAGE_BYTES, (end - start) * PAGE_BYTES]);
    start = -1;
  };
  for (let index = 0; index * 32 < pages; index++) {
    const word = words[index]!;
    if (word === 0) {
      close(index * 32);
      continue;
    }
    if (word === 0xffff_ffff && (index + 1) * 32 <= pages) {
      if (start < 0) start = index * 32;
      continue;
    }
    for (let bit = 0; bit < 32; bit++) {
      const page = index * 32 + bit;
      if (page < pages && (word >>> bit) & 1) {
        if (start < 0) start = page;
      } else {
        close(Math.min(page, pages));
      }
    }
  }
  close(pages);
  return runs;
}

/**
 * At most `most` runs that contain all of `runs`: the smallest gaps are filled. Pages that were not in the
 * set then are, which costs their bytes and is no error, because a layer holds RAM as it is now.
 */
export function limitRuns(runs: readonly PageRun[], most: number): readonly PageRun[] {
  if (runs.length <= most) return runs;
  const gaps = new Float64Array(runs.length - 1);
  for (let i = 1; i < runs.length; i++) gaps[i - 1] = runs[i]![0] - runs[i - 1]![0] - runs[i - 1]![1];
  // Gaps below `limit` are filled, and as many of those equal to it as needed.
  const sorted = gaps.toSorted();
  const excess = runs.length - most;
  const limit = sorted[excess - 1]!;
  let equal = excess - sorted.findIndex((gap) => gap === limit);
  const result: PageRun[] = [];
  let [offset, end] = [runs[0]![0], runs[0]![0] + runs[0]![1]];
  for (let i = 1; i < runs.length; i++) {
    const gap = gaps[i - 1]!;
    const fills = gap < limit || (gap === limit && equal-- > 0);
    if (!fills) {
      result.push([offset, end - offset]);
      offset = runs[i]![0];
    }
    end = runs[i]![0] + runs[i]![1];
  }
  result.push([offset, end - offset]);
  return result;
}

/** The union of two sets. */
export function uniteRuns(a: readonly PageRun[], b: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const next = j >= b.length || (i < a.length && a[i]![0] <= b[j]![0]) ? a[i++]! : b[j++]!;
    const last = result.at(-1);
    if (last === undefined || next[0] > last[0] + last[1]) result.push(next);
    else result[result.length - 1] = [last[0], Math.max(last[1], next[0] + next[1] - last[0])];
  }
  return result;
}

/** The pages that are in both sets. */
export function intersectRuns(a: readonly PageRun[], b: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    const start = Math.max(a[i]![0], b[j]![0]);
    const [endA, endB] = [a[i]![0] + a[i]![1], b[j]![0] + b[j]![1]];
    const end = Math.min(endA, endB);
    if (start < end) result.push([start, end - start]);
    if (endA <= endB) i++;
    else j++;
  }
  return result;
}

/** The pages of `a` that are not in `b`. */
export function subtractRuns(a: readonly PageRun[], b: readonly PageRun[]): PageRun[] {
  const result: PageRun[] = [];
  let j = 0;
  for (const [offset, bytes] of a) {
    const end = offset + bytes;
    let at = offset;
    while (j < b.length && b[j]![0] + b[j]![1] <= at) j++;
    for (let k = j; k < b.length && b[k]![0] < end; k++) {
      if (b[k]![0] > at) result.push([at, b[k]![0] - at]);
      at = Math.max(at, b[k]![0] + b[k]![1]);
    }
    if (at < end) result.push([at, end - at]);
  }
  return result;
}

/**
 * Which layer each piece of RAM is in, ascending. Layers are oldest first, and one without runs holds all of
 * RAM, as the first one must.
 */
export function flattenLayers(
  bytes: number,
  layers: readonly { readonly runs?: readonly PageRun[] | undefined }[],
): LayerPiece[] {
  const pieces: LayerPiece[] = [];
  let free: readonly PageRun[] = [[0, bytes]];
  for (let layer = layers.length - 1; layer >= 0 && free.length > 0; layer--) {
    const { runs } = layers[layer]!;
    const taken = runs === undefined ? free : intersectRuns(free, runs);
    for (const [offset, length] of taken) pieces.push({ offset, bytes: length, layer });
    free = runs === undefined ? [] : subtractRuns(free, runs);
  }
  return pieces.sort((a, b) => a.offset - b.offset);
}
