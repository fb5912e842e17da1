/** Guest memory and files for tests of saving and restoring it. */
import { closeSync, openSync } from 'node:fs';
import type { RamRange } from '../../../src/machine/layout.ts';
import type { PageRun } from '../../../src/machine/page-runs.ts';
import { GuestMemory, type GuestMemoryOptions } from '../../../src/memory/guest-memory.ts';
import {
  writeMemory,
  type WriteMemoryOptions,
  type WrittenMemory,
} from '../../../src/memory/memory-writer.ts';
import { openMemorySource } from '../../../src/memory/open-source.ts';

/** Writes `memory` to a new file at `path`. */
export async function saveTo(
  path: string,
  memory: GuestMemory,
  options: WriteMemoryOptions = {},
): Promise<WrittenMemory> {
  const fd = openSync(path, 'wx');
  try {
    return await writeMemory(memory, fd, options);
  } finally {
    closeSync(fd);
  }
}

export interface LayerFile {
  readonly path: string;
  readonly runs?: readonly PageRun[];
}

/** Memory from layer files, ready to be accessed. */
export function restoreFrom(
  ranges: readonly RamRange[],
  layers: readonly LayerFile[],
  options: GuestMemoryOptions = {},
): GuestMemory {
  const open = layers.map(({ path, runs }) => ({ fd: openSync(path, 'r'), name: path, runs }));
  try {
    const source = openMemorySource({ kind: 'layers', layers: open });
    const memory = new GuestMemory(ranges, { ...options, source });
    source.load(2);
    return memory;
  } finally {
    for (const { fd } of open) closeSync(fd);
  }
}
