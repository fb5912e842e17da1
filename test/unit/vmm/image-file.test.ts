import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openImage } from '../../../src/vmm/image-file.ts';
import { voltErrorOf } from '../support/errors.ts';

const directory = mkdtempSync(join(tmpdir(), 'volt-image-'));
const path = join(directory, 'ten');
writeFileSync(path, '0123456789');
afterAll(() => rmSync(directory, { recursive: true }));

test('an image is read in pieces', () => {
  using image = openImage(path, '--kernel');
  expect([image.name, image.bytes]).toEqual([path, 10]);
  expect(Buffer.from(image.read(3, 4)).toString()).toBe('3456');
  expect(image.read(10, 0).length).toBe(0);
});

test.each([
  [8, 3],
  [-1, 1],
  [0, -1],
])('reading from %p for %p bytes is a RangeError', (offset, length) => {
  using image = openImage(path, '--kernel');
  expect(() => image.read(offset, length)).toThrow(RangeError);
});

test.each([
  ['none', 'there is no such file (expected the path of a file)'],
  ['.', 'it is a directory (expected the path of a file)'],
])('%p cannot be an image', (name, message) => {
  const bad = join(directory, name);
  expect(voltErrorOf(() => openImage(bad, '--initrd'))).toEqual({
    code: 'image',
    message: `Cannot use --initrd ${bad}: ${message}`,
  });
});

test('a device cannot be an image', () => {
  expect(voltErrorOf(() => openImage('/dev/null', '--kernel')).message).toBe(
    'Cannot use --kernel /dev/null: it is not a regular file (expected the path of a file)',
  );
});

test('a file that is cut short under Volt is told so', () => {
  const shrinking = join(directory, 'shrinking');
  writeFileSync(shrinking, '0123456789');
  using image = openImage(shrinking, '--kernel');
  truncateSync(shrinking, 5);
  expect(voltErrorOf(() => image.read(0, 10)).message).toBe(
    `Cannot use --kernel ${shrinking}: it was cut short while Volt read it (expected a file at rest)`,
  );
});

test('a path through a file is told in words', () => {
  const through = join(path, 'below');
  expect(voltErrorOf(() => openImage(through, '--kernel')).message).toStartWith(
    `Cannot use --kernel ${through}:`,
  );
});
