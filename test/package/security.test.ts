/** SECURITY.md names tests for what it says; they have to be there. */
import { expect, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

const root = resolve(import.meta.dir, '../..');
/** Parts that devices are made of, and no way to a device by themselves. */
const NO_DEVICE = ['fuzz.test.ts', 'guest-ram.test.ts', 'rate-limiter.test.ts'];

test('every file that SECURITY.md names exists', () => {
  const text = readFileSync(resolve(root, 'SECURITY.md'), 'utf8');
  const named = [...text.matchAll(/`((?:test|src|scripts|docs)\/[^`\s]+)`/g)].map((match) => match[1]!);

  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((path) => !existsSync(resolve(root, path)))).toEqual([]);
});

test('every test of a device is named in SECURITY.md', () => {
  const text = readFileSync(resolve(root, 'SECURITY.md'), 'utf8');
  const folders = ['test/unit/devices', 'test/unit/devices/virtio'];
  const tests = folders.flatMap((folder) =>
    readdirSync(resolve(root, folder))
      .filter((name) => name.endsWith('.test.ts') && !NO_DEVICE.includes(name))
      .map((name) => `${folder}/${name}`),
  );

  expect(tests.length).toBeGreaterThan(10);
  expect(tests.filter((path) => !text.includes(path))).toEqual([]);
});
