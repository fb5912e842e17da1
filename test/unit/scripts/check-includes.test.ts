import { afterEach, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { checkIncludes } from '../../../scripts/check-includes.ts';

const folders: string[] = [];
afterEach(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true })));

function problemsOf(files: Readonly<Record<string, string>>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'volt-includes-'));
  folders.push(folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return checkIncludes(folder);
}

test('the embedded kernel has no circles', () => {
  expect(checkIncludes(resolve(import.meta.dir, '../../../kernels/smp'))).toEqual([]);
});

test.each<[string, Readonly<Record<string, string>>, string]>([
  [
    'a circle of headers',
    { 'a.h': '#include "b.h"', 'b.h': '#pragma once\n#include "c.h"', 'c.h': '#include "a.h"' },
    'include circle: a.h, b.h, c.h',
  ],
  ['a header that includes itself', { 'a.h': '#include "a.h"' }, 'include circle: a.h'],
  [
    'a circle of modules whose headers know nothing of each other',
    { 'a.h': '', 'a.c': '#include "a.h"\n#include "b.h"', 'b.h': '', 'b.S': '#include "a.h"' },
    'module circle: a, b',
  ],
  ['a header that is not there', { 'a.c': '#include "b.h"' }, 'a.c: includes b.h, which does not exist'],
])('refuses %s', (_, files, problem) => {
  expect(problemsOf(files)).toEqual([problem]);
});

test('allows a source and its own header, and headers of the compiler', () => {
  expect(
    problemsOf({ 'a.h': '#include <stdint.h>', 'a.c': '#include "a.h"', 'a.S': '#include "a.h"' }),
  ).toEqual([]);
});
