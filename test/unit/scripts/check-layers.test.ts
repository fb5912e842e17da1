import { afterEach, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { checkLayers } from '../../../scripts/check-layers.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const folders: string[] = [];
afterEach(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true })));

function problemsOf(files: Readonly<Record<string, string>>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'volt-layers-'));
  folders.push(folder);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return checkLayers(folder);
}

test('the source keeps its layers', () => {
  expect(checkLayers(resolve(import.meta.dir, '../../../src'))).toEqual([]);
});

test.each<[string, Readonly<Record<string, string>>, string]>([
  [
    'an import upwards',
    { 'ffi/a.ts': "import { b } from '../vmm/b.ts';", 'vmm/b.ts': '' },
    'ffi/a.ts: ffi/ (rank 1) imports vmm/b.ts (rank 6)',
  ],
  [
    'an import between folders of one rank',
    { 'boot/a.ts': "import type { B } from '../acpi/b.ts';", 'acpi/b.ts': '' },
    'boot/a.ts: boot/ (rank 2) imports acpi/b.ts (rank 2)',
  ],
  ['a folder without a rank', { 'new/a.ts': '' }, 'new/a.ts: folder new has no rank'],
  ['bun:ffi outside ffi/', { 'kvm/a.ts': "import { ptr } from 'bun:ffi';" }, 'kvm/a.ts: only ffi/'],
  [
    'more of cli/ than api/',
    { 'cli/a.ts': "import { b } from '../vmm/b.ts';", 'vmm/b.ts': '' },
    'cli/a.ts: cli/ imports vmm/b.ts, but may know api/ alone',
  ],
  [
    'a circle, even of types',
    {
      'vmm/a.ts': "import type { B } from './b.ts';",
      'vmm/b.ts': "export { c } from './c.ts';",
      'vmm/c.ts': "import {\n  type A,\n} from './a.ts';",
    },
    'import circle: vmm/a.ts, vmm/b.ts, vmm/c.ts',
  ],
  [
    'an effect behind a pure folder',
    { 'plan/a.ts': "import './b.ts';", 'plan/b.ts': "import { readFileSync } from 'node:fs';" },
    'plan/a.ts is pure and may not reach plan/b.ts -> node:fs',
  ],
  [
    'an effect behind a file that is pure by its name',
    {
      'virtio/block/device.ts': "import { f } from './helper.ts';",
      'virtio/block/helper.ts': "import { libc } from '../../ffi/libc.ts';",
      'ffi/libc.ts': '',
    },
    'virtio/block/device.ts is pure and may not reach virtio/block/helper.ts -> ffi/libc.ts',
  ],
  [
    'schemas on a device worker',
    {
      'virtio/block/serve.ts': "import { x } from './spec.ts';",
      'virtio/block/spec.ts': "import * as v from 'valibot';",
    },
    'virtio/block/serve.ts runs on a device worker and may not load virtio/block/spec.ts',
  ],
])('refuses %s', (_, files, problem) => {
  expect(problemsOf(files)[0]).toStartWith(problem);
});

test('allows types of effectful files, and macros, which run at build time', () => {
  const files = {
    'virtio/block/device.ts': "import type { Fd } from '../../ffi/file.ts';",
    'ffi/file.ts': '',
    'vmm/a.ts': "import { built } from './b.ts' with { type: 'macro' };",
    'vmm/b.ts': '',
  };

  expect(problemsOf(files)).toEqual([]);
});
