import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COPY_JOB, copyThreadCode } from '../../../src/ffi/copy-thread-code.ts';
import { CopyJob, prepareCopyThreads, type CopyChunk } from '../../../src/ffi/copy-threads.ts';
import { ERRNO } from '../../../src/ffi/errno.ts';
import { MAP, Mapping, PROT } from '../../../src/ffi/mapping.ts';
import { MIB, PAGE_BYTES } from '../../../src/machine/address.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const P = PAGE_BYTES;

function mapPages(pages: number): Mapping {
  return new Mapping({
    bytes: pages * P,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: 'a test',
  });
}

/** A file that is closed and removed with its folder. */
function openNew(folder: TemporaryFolder, flags = 'w+') {
  const path = join(folder.path, 'file');
  const fd = openSync(path, flags);
  return { path, fd, [Symbol.dispose]: () => closeSync(fd) };
}

function runJob(chunks: readonly CopyChunk[], threads: number) {
  using job = new CopyJob(chunks, threads);
  job.wait();
  return { done: job.done, moved: job.moved, errno: job.errno };
}

test('the code ends with every register restored and fits one page', () => {
  expect(copyThreadCode().length).toBeLessThan(P);
  expect(COPY_JOB.size % 16).toBe(0);
});

test('a job maps no code once that is prepared, as a sandbox demands', () => {
  using memory = mapPages(1);
  prepareCopyThreads();
  const executable = () =>
    readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => line.includes(' r-xp '));
  const before = executable();

  runJob([{ host: memory.address, bytes: P, fd: -1, offset: 0 }], 1);

  expect(executable()).toEqual(before);
});

describe('copy threads that write', () => {
  test.each([1, 2, 5])('leave out zero pages, with %p threads', (threads) => {
    using folder = new TemporaryFolder();
    using file = openNew(folder);
    using memory = mapPages(64);
    const bytes = new Uint8Array(memory.view(0, 64 * P));
    const used = [0, 1, 5, 6, 7, 20, 40, 41, 62];
    // Once in the first byte, once in the last: no byte of a page may be overlooked.
    for (const page of used) bytes[page * P + (page % 2) * (P - 1)] = page + 1;
    const chunks = Array.from({ length: 8 }, (_, i) => ({
      host: memory.address + i * 8 * P,
      bytes: 8 * P,
      fd: file.fd,
      offset: i * 8 * P,
    }));

    const result = runJob(chunks, threads);

    const expected = bytes.slice(0, 63 * P);
    expect(result).toEqual({ done: 64 * P, moved: used.length * P, errno: 0 });
    expect(readFileSync(file.path).equals(expected)).toBe(true);
    expect(fstatSync(file.fd).blocks * 512).toBeLessThan(32 * P);
  });

  test('find a page that is not zero by any of its bytes', () => {
    using folder = new TemporaryFolder();
    using file = openNew(folder);
    using memory = mapPages(P);
    const bytes = new Uint8Array(memory.view(0, P * P));
    for (let i = 0; i < P; i++) bytes[i * P + i] = 1;

    const { moved } = runJob([{ host: memory.address, bytes: P * P, fd: file.fd, offset: 0 }], 2);

    expect(moved).toBe(P * P);
  });

  test('write zeroes too when told so', () => {
    using folder = new TemporaryFolder();
    using file = openNew(folder);
    using memory = mapPages(4);
    const whole = { host: memory.address, bytes: 4 * P, fd: file.fd, offset: 0, whole: true };

    expect(runJob([whole], 1).moved).toBe(4 * P);
    expect(fstatSync(file.fd).size).toBe(4 * P);
  });

  test('end at the first error, and say which it was', () => {
    using folder = new TemporaryFolder();
    using file = openNew(folder);
    using memory = mapPages(4);
    new Uint8Array(memory.view(0, 4 * P)).fill(1);
    const readOnly = openSync(file.path, 'r');
    const chunks = Array.from({ length: 4 }, (_, i) => ({
      host: memory.address + i * P,
      bytes: P,
      fd: readOnly,
      offset: i * P,
    }));

    const { errno, moved } = runJob(chunks, 2);
    closeSync(readOnly);

    expect([errno, moved]).toEqual([ERRNO.EBADF, 0]);
  });

  test('say that the disk is full', () => {
    using memory = mapPages(1);
    new Uint8Array(memory.view(0, P)).fill(1);
    const full = openSync('/dev/full', 'w');

    const { errno } = runJob([{ host: memory.address, bytes: P, fd: full, offset: 0 }], 1);
    closeSync(full);

    expect(errno).toBe(ERRNO.ENOSPC);
  });

  test('wake the event loop when the last one has ended', async () => {
    using folder = new TemporaryFolder();
    using file = openNew(folder);
    using memory = mapPages(16 * 256);
    new Uint8Array(memory.view(0, 16 * MIB)).fill(3);
    const chunks = Array.from({ length: 16 }, (_, i) => ({
      host: memory.address + i * MIB,
      bytes: MIB,
      fd: file.fd,
      offset: i * MIB,
    }));
    using job = new CopyJob(chunks, 2);

    await job.finished();

    expect([job.ended, job.moved, job.errno]).toEqual([true, 16 * MIB, 0]);
  });
});

describe('copy threads that read', () => {
  test('fill memory from the file, short calls included', () => {
    using folder = new TemporaryFolder();
    using memory = mapPages(32);
    const content = Uint8Array.from({ length: 32 * P }, (_, i) => (i * 31) % 251);
    const path = join(folder.path, 'source');
    writeFileSync(path, content);
    const fd = openSync(path, 'r');
    const chunks = Array.from({ length: 4 }, (_, i) => ({
      host: memory.address + i * 8 * P,
      bytes: 8 * P,
      fd,
      offset: i * 8 * P,
      read: true,
    }));

    const result = runJob(chunks, 3);
    closeSync(fd);

    expect(result).toEqual({ done: 32 * P, moved: 32 * P, errno: 0 });
    expect(Buffer.from(memory.view(0, 32 * P)).equals(content)).toBe(true);
  });

  test('fail at the end of the file', () => {
    using folder = new TemporaryFolder();
    using memory = mapPages(4);
    const path = join(folder.path, 'source');
    writeFileSync(path, new Uint8Array(2 * P + 5));
    const fd = openSync(path, 'r');

    const result = runJob([{ host: memory.address, bytes: 4 * P, fd, offset: 0, read: true }], 1);
    closeSync(fd);

    expect([result.errno, result.moved]).toEqual([ERRNO.EIO, 2 * P + 5]);
  });
});
