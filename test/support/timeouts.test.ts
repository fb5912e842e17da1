/** Plain `bun test` allows a test five seconds, which a busy machine needs for the start of a process. */
import { expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

const TESTS = resolve(import.meta.dir, '..');
/** Starts of processes and workers, and the tests' own functions that start them. */
const STARTS = /\bBun\.spawn|\bspawnSync\(|\bnew Worker\(|\brun(?:Volt|Guest|Kernel|BadInput|OnLinuxHost)\(/;

test('a test file that starts processes has limits of its own', () => {
  const files = [...new Bun.Glob('**/*.test.ts').scanSync(TESTS)];
  const starting = files.filter((file) => STARTS.test(readFileSync(resolve(TESTS, file), 'utf8')));

  const without = starting.filter((file) => {
    const text = readFileSync(resolve(TESTS, file), 'utf8');
    return !/\bsetDefaultTimeout\(|\bLINUX_TEST\b/.test(text);
  });

  expect(starting.length).toBeGreaterThan(50);
  expect(without).toEqual([]);
});
