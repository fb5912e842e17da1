/** SECURITY.md names tests for what it says; they have to be there. */
import { expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

const root = resolve(import.meta.dir, '../..');

test('every file that SECURITY.md names exists', () => {
  const text = readFileSync(resolve(root, 'SECURITY.md'), 'utf8');
  const named = [...text.matchAll(/`((?:test|src|scripts|docs)\/[^`\s]+)`/g)].map((match) => match[1]!);

  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((path) => !existsSync(resolve(root, path)))).toEqual([]);
});
