import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SyscallError } from '../../../src/ffi/errno.ts';
import { OPEN, openFile, readAt, WRITE_PIECE_BYTES, writeNonBlocking } from '../../../src/ffi/file.ts';

const directory = mkdtempSync(join(tmpdir(), 'volt-file-'));
const path = join(directory, 'ten');
writeFileSync(path, '0123456789');
afterAll(() => rmSync(directory, { recursive: true }));

function errorOf(act: () => unknown): SyscallError {
  try {
    act();
  } catch (error) {
    if (error instanceof SyscallError) return error;
    throw error;
  }
  throw new Error('Expected a SyscallError, but nothing was thrown');
}

describe('openFile', () => {
  test('says which file does not open, why, and the advice for that errno', () => {
    const missing = join(directory, 'none');
    const error = errorOf(() => openFile(missing, OPEN.readOnly, (errno) => `advice for ${errno}`));
    expect(error.message).toBe(`open ${missing} failed: ENOENT (no such file); advice for 2`);
  });

  test('passes names that are not ASCII', () => {
    const named = join(directory, 'Kärnel ✓');
    writeFileSync(named, 'x');
    using file = openFile(named, OPEN.readOnly);
    expect(readAt(file.fd, new Uint8Array(4), 0)).toBe(1);
  });

  test('makes files with the mode asked for', () => {
    const made = join(directory, 'made');
    using file = openFile(made, OPEN.writeOnly | OPEN.create | OPEN.append);
    expect(writeNonBlocking(file.fd, Buffer.from('abc'))).toBe(3);
    expect(readFileSync(made, 'utf8')).toBe('abc');
  });

  test('closes once', () => {
    const file = openFile(path, OPEN.readOnly);
    file.close();
    file.close();
    expect(errorOf(() => readAt(file.fd, new Uint8Array(1), 0)).code).toBe('EBADF');
  });
});

describe('readAt', () => {
  test('fills the target from an offset', () => {
    using file = openFile(path, OPEN.readOnly);
    const target = new Uint8Array(4);
    expect(readAt(file.fd, target, 3)).toBe(4);
    expect(Buffer.from(target).toString()).toBe('3456');
  });

  test('tells how much there was before the end', () => {
    using file = openFile(path, OPEN.readOnly);
    expect(readAt(file.fd, new Uint8Array(8), 6)).toBe(4);
    expect(readAt(file.fd, new Uint8Array(8), 100)).toBe(0);
    expect(readAt(file.fd, new Uint8Array(0), 0)).toBe(0);
  });
});

test('writeNonBlocking writes at most one piece', () => {
  using file = openFile('/dev/null', OPEN.writeOnly);
  expect(writeNonBlocking(file.fd, new Uint8Array(3 * WRITE_PIECE_BYTES))).toBe(WRITE_PIECE_BYTES);
});
