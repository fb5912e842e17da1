/** SECURITY.md names tests for what it says; they have to be there. */
import { expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

const root = resolve(import.meta.dir, '../..');
/** Tests of devices' registers, rings and requests, which a guest reaches. */
const DEVICE_TESTS =
  /^test\/unit\/(chips\/.*|virtio\/(.*\/)?(device|mmio|split-queue|packed-queue))\.test\.ts$/;

test('every file that SECURITY.md names exists', () => {
  const text = readFileSync(resolve(root, 'SECURITY.md'), 'utf8');
  const named = [...text.matchAll(/`((?:test|src|scripts|docs)\/[^`\s]+)`/g)].map((match) => match[1]!);

  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((path) => !existsSync(resolve(root, path)))).toEqual([]);
});

test('every test of a device is named in SECURITY.md', () => {
  const text = readFileSync(resolve(root, 'SECURITY.md'), 'utf8');
  const devices = new Bun.Glob('test/unit/{chips,virtio}/**/*.test.ts');
  const tests = [...devices.scanSync(root)].filter((path) => DEVICE_TESTS.test(path));

  expect(tests.length).toBeGreaterThan(10);
  expect(tests.filter((path) => !text.includes(path))).toEqual([]);
});
