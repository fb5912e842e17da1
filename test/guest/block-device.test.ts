/** Real block devices as disks: loop devices with blocks of 512 and 4096 bytes. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { TemporaryFolder } from '../cli/volt-process.ts';
import { runKernel } from './guest-run.ts';
import { LoopDevice, loopsWork } from './loop-device.ts';
import { requestingGuest } from './requesting-guest.ts';
import { BLOCK_REQUEST_TYPE as TYPE, SECTOR } from './sandboxed-disk-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const MIB = 2 ** 20;
const BLOCK = 4096;
const OK = 0;
const IO_ERROR = 1;

const u32s = (...values: number[]) => [...new Uint8Array(Uint32Array.from(values).buffer)];

/** Rows that read, write, flush, and write again past 4 KiB. */
const WORK = [
  [TYPE.write, 8, BLOCK],
  [TYPE.flush, 0, 0],
  [TYPE.read, 8, BLOCK],
] as const;

describe.skipIf(!loopsWork)('a block device (needs /dev/kvm, root and loop devices)', () => {
  test.each([
    ['as it is', ''],
    ['written through', ',cache=writethrough'],
    ['by preadv and pwritev', ',engine=sync'],
    ['past the page cache, by io_uring', ',direct'],
    ['past the page cache, by preadv and pwritev', ',direct,engine=sync'],
  ])('with blocks of 4096 bytes is read, written and flushed %s', async (_how, words) => {
    using folder = new TemporaryFolder();
    using loop = new LoopDevice(folder.at('image'), MIB, ['--sector-size', `${BLOCK}`]);

    const { bytes, stderr } = await runKernel(requestingGuest(WORK), ['--disk', `path=${loop.path}${words}`]);

    expect(stderr).toBe('');
    expect([...bytes]).toEqual([...u32s(MIB / SECTOR, BLOCK), OK, OK, OK]);
    const content = readFileSync(loop.path);
    expect([content[BLOCK - 1], content[BLOCK], content[2 * BLOCK - 1], content[2 * BLOCK]]).toEqual([
      0, 0x5a, 0x5a, 0,
    ]);
  });

  test('with blocks of 512 bytes says so', async () => {
    using folder = new TemporaryFolder();
    using loop = new LoopDevice(folder.at('image'), MIB);

    const { bytes } = await runKernel(requestingGuest([]), ['--disk', `path=${loop.path},direct`]);

    expect([...bytes]).toEqual(u32s(MIB / SECTOR, SECTOR));
  });

  test.each([
    ['refuses parts of a block, as the disk would, past the page cache', ',direct', IO_ERROR],
    ['takes parts of a block by way of the page cache', '', OK],
  ])('%s', async (_what, words, status) => {
    using folder = new TemporaryFolder();
    using loop = new LoopDevice(folder.at('image'), MIB, ['--sector-size', `${BLOCK}`]);
    const guest = requestingGuest([[TYPE.write, 1, SECTOR]]);

    const { bytes } = await runKernel(guest, ['--disk', `path=${loop.path}${words}`]);

    expect(bytes.at(-1)).toBe(status);
    expect(readFileSync(loop.path)[SECTOR]).toBe(status === OK ? 0x5a : 0);
  });

  test.each(['', ',direct'])('gives back what is discarded and zeroed%s', async (words) => {
    using folder = new TemporaryFolder();
    writeFileSync(folder.at('image'), new Uint8Array(MIB).fill(7));
    using loop = new LoopDevice(folder.at('image'), MIB);
    const before = loop.usedBytes;
    const guest = requestingGuest([
      [TYPE.discard, 0, MIB / 2],
      [TYPE.zero, MIB / 2 / SECTOR, MIB / 4],
    ]);

    const { bytes, stderr } = await runKernel(guest, ['--disk', `path=${loop.path}${words}`]);

    expect([...bytes.subarray(8)]).toEqual([OK, OK]);
    expect(stderr).toBe('');
    expect(before - loop.usedBytes).toBeGreaterThanOrEqual(MIB / 2);
    const content = readFileSync(loop.path);
    expect([content[0], content[MIB / 2], content[(3 * MIB) / 4]]).toEqual([0, 0, 7]);
  });

  test('that is read-only is refused for writing, and takes no write as readonly', async () => {
    using folder = new TemporaryFolder();
    using loop = new LoopDevice(folder.at('image'), MIB, ['--read-only']);
    const rows = [
      [TYPE.read, 0, SECTOR],
      [TYPE.write, 0, SECTOR],
    ] as const;
    const guest = requestingGuest(rows, 0);

    const written = await runKernel(guest, ['--disk', loop.path]);
    const read = await runKernel(guest, ['--disk', `path=${loop.path},readonly`]);

    expect(written.stderr).toBe(
      `volt: Cannot use --disk ${loop.path}: this block device is read-only; add readonly or overlay=FILE\n`,
    );
    expect(written.exitCode).toBe(2);
    expect([...read.bytes.subarray(8)]).toEqual([OK, IO_ERROR]);
  });

  test('under a file system gives its blocks to a file that is read past the page cache', async () => {
    using folder = new TemporaryFolder();
    using loop = new LoopDevice(folder.at('image'), 8 * MIB, ['--sector-size', `${BLOCK}`]);
    const mnt = folder.at('mnt');
    mkdirSync(mnt);
    const run = (guest: Uint8Array, words: string) => {
      const script = `mkfs.ext4 -q -F ${loop.path} && mount ${loop.path} ${mnt} && truncate -s ${words} && exec "$@"`;
      const prefix = ['unshare', '--mount', 'sh', '-c', script, 'sh'];
      return runKernel(guest, ['--disk', `path=${mnt}/disk,direct`], { prefix });
    };

    const whole = await run(requestingGuest(WORK), `${MIB} ${mnt}/disk`);
    const odd = await run(requestingGuest(WORK), `${MIB + SECTOR} ${mnt}/disk`);

    expect(whole.stderr).toBe('');
    expect([...whole.bytes]).toEqual([...u32s(MIB / SECTOR, BLOCK), OK, OK, OK]);
    expect(odd.stderr).toContain(
      `it has ${MIB + SECTOR} bytes (expected whole blocks of ${BLOCK} bytes, at least one)`,
    );
  });

  test('that is mounted is refused', async () => {
    using folder = new TemporaryFolder();
    using loop = new LoopDevice(folder.at('image'), 8 * MIB);
    mkdirSync(folder.at('mnt'));
    const script = `mkfs.ext4 -q ${loop.path} && mount ${loop.path} ${folder.at('mnt')} && exec "$@"`;

    const { stderr, exitCode } = await runKernel(requestingGuest([]), ['--disk', loop.path], {
      prefix: ['unshare', '--mount', 'sh', '-c', script, 'sh'],
    });

    expect(stderr).toBe(
      `volt: Cannot use --disk ${loop.path}: it is in use; unmount it, or remove it from the array or volume that uses it\n`,
    );
    expect(exitCode).toBe(2);
  });
});
