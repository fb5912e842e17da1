/**
 * Guest memory in a snapshot's `state` file: the regions of RAM, and the memory files that hold their content,
 * oldest first. Pure. The file is untrusted input: nothing here is used before it went through the schema.
 */
import * as v from 'valibot';
import { GIB, PAGE_BYTES } from '../../machine/address.ts';
import { checkRuns, type PageRun } from '../../machine/page-runs.ts';
import { found, isSection, wholeNumber } from '../../schema/values.ts';

/** A chain of more layers is slower to restore than a new full snapshot. */
export const MAX_LAYERS = 64;
/** `DirtyTracker` merges runs so that a layer has no more. */
export const MAX_RUNS = 16_384;
const MAX_REGIONS = 8;
const MAX_RAM_BYTES = 64 * 1024 * GIB;

/** `memory-` and the hexadecimal id of the snapshot that wrote it. */
const MEMORY_FILE = /^memory-[0-9a-f]{1,64}$/;

/** A region of guest RAM, in bytes and a guest physical address. */
export interface SavedRegion {
  readonly address: number;
  readonly bytes: number;
}

export interface SavedLayer {
  /** Name of the file, beside `state`. */
  readonly file: string;
  /** Length of the file: that of RAM. */
  readonly bytes: number;
  /** The pages that it holds; undefined for the first layer, which holds all of RAM. */
  readonly runs?: readonly PageRun[] | undefined;
}

export interface MemoryState {
  readonly regions: readonly SavedRegion[];
  readonly layers: readonly SavedLayer[];
}

/** Whether a name in a snapshot's directory is that of a memory file. */
export function isMemoryFile(name: string): boolean {
  return MEMORY_FILE.test(name);
}

/** The name of the memory file of snapshot `id`, which is hexadecimal. */
export function memoryFileName(id: string): string {
  return `memory-${id}`;
}

/** Bytes of all regions: the length of each memory file. */
export function ramBytes(regions: readonly { readonly bytes: number }[]): number {
  return regions.reduce((sum, { bytes }) => sum + bytes, 0);
}

const pages = (min: number, max: number) =>
  v.pipe(
    wholeNumber(min, max),
    v.check(
      (value) => value % PAGE_BYTES === 0,
      (issue) => `${found(issue.input)} (expected a multiple of ${PAGE_BYTES})`,
    ),
  );

const objectOf = <const T extends v.ObjectEntries>(entries: T) =>
  v.pipe(
    v.custom<Record<string, unknown>>(isSection, (issue) => `${found(issue.input)} (expected an object)`),
    v.strictObject(entries, (issue) =>
      issue.expected === 'never'
        ? `unknown key ${found(issue.input)}`
        : `${found(issue.input)} (expected a value)`,
    ),
  );

const fewOf = <const T extends v.GenericSchema>(item: T, most: number) =>
  v.pipe(
    v.custom<unknown[]>(
      (value) => Array.isArray(value) && value.length > 0 && value.length <= most,
      (issue) => `${found(issue.input)} (expected a list of 1 to ${most})`,
    ),
    v.array(item),
  );

/** Checked by hand: a layer may have thousands, and valibot makes objects of each. */
const RunsSchema = v.custom<readonly PageRun[]>(
  (value) =>
    Array.isArray(value) &&
    value.length <= MAX_RUNS &&
    value.every(
      (run) =>
        Array.isArray(run) &&
        run.length === 2 &&
        Number.isSafeInteger(run[0]) &&
        Number.isSafeInteger(run[1]),
    ),
  (issue) => `${found(issue.input)} (expected at most ${MAX_RUNS} pairs of an offset and a length)`,
);

const RegionSchema = objectOf({
  address: pages(0, 2 ** 52 - PAGE_BYTES),
  bytes: pages(PAGE_BYTES, MAX_RAM_BYTES),
});

const LayerSchema = objectOf({
  file: v.custom<string>(
    (value) => typeof value === 'string' && isMemoryFile(value),
    (issue) => `${found(issue.input)} (expected memory- and a hexadecimal id)`,
  ),
  bytes: pages(PAGE_BYTES, MAX_RAM_BYTES),
  runs: v.optional(RunsSchema),
});

/** Regions ascend without overlap; every layer is as long as RAM; the first is whole, the others have runs. */
export const MemoryStateSchema = v.pipe(
  objectOf({ regions: fewOf(RegionSchema, MAX_REGIONS), layers: fewOf(LayerSchema, MAX_LAYERS) }),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const wrong = findInconsistency(dataset.value as MemoryState);
    if (wrong !== undefined) addIssue({ message: wrong });
  }),
  v.transform((value): MemoryState => value as MemoryState),
);

function findInconsistency({ regions, layers }: MemoryState): string | undefined {
  let end = 0;
  for (const { address, bytes } of regions) {
    if (address < end) return `the region at ${address} is not behind the one before it`;
    end = address + bytes;
    if (end > 2 ** 52) return `the region at ${address} ends behind the last guest physical address`;
  }
  const total = ramBytes(regions);
  const names = new Set<string>();
  for (const [index, { file, bytes, runs }] of layers.entries()) {
    if (names.has(file)) return `${file} is named twice`;
    names.add(file);
    if (bytes !== total) return `${file} has ${bytes} bytes (expected ${total}, as RAM has)`;
    if (index === 0 && runs !== undefined) return `${file} is the first layer, but lists runs`;
    if (index > 0 && runs === undefined) return `${file} is not the first layer, but lists no runs`;
    const wrong = runs && checkRuns(runs, total);
    if (wrong !== undefined) return `${file}: ${wrong}`;
  }
  return undefined;
}
