/** Persistent memory on a real KVM. It lies above 4 GiB, where these guests get by way of a disk that copies for them. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { GIB, MIB } from '../../src/machine/address.ts';
import { PORT } from '../../src/machine/ports.ts';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { runKernel } from './guest-run.ts';
import { LoopDevice, loopsWork } from './loop-device.ts';
import { BlockRequests, BLOCK_REQUEST_TYPE as TYPE, SECTOR } from './sandboxed-disk-guest.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { DATA, virtioAsm, virtioImage } from './virtio-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const START = 4 * GIB;
const BYTES = 4 * MIB;
const FAILED = 0xffff_ffff;
const u32s = (...values: number[]) => [...new Uint8Array(Uint32Array.from(values).buffer)];

/** A file system in memory that is soon full. */
class SmallFileSystem implements Disposable {
  readonly path: string;

  constructor(path: string, bytes: number) {
    this.path = path;
    mkdirSync(path);
    Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', `size=${bytes}`, 'none', path]);
  }

  [Symbol.dispose](): void {
    Bun.spawnSync(['umount', this.path]);
  }
}

/** Prints where the memory lies and how large it is, asks for a flush, and prints its result; then ends or resets. */
function flushingGuest(resets: boolean): Uint8Array {
  const chain = [
    { address: DATA, length: 4 },
    { address: DATA + 8, length: 4, writable: true },
  ];
  const code = [
    [0, 4, 8, 12].flatMap((at) => [...virtioAsm.read(R.config + at), ...asm.printEax(4)]),
    [...virtioAsm.start(), ...virtioAsm.offer(1), ...virtioAsm.waitUsed(1), ...asm.printMemory(DATA + 8, 4)],
    resets ? [...asm.out8(PORT.i8042Command, 0xfe), ...asm.halt()] : asm.exit(0),
  ];
  return buildPvhElf(virtioImage(code, [chain], new Uint8Array(16).fill(0xaa, 8)));
}

/** Has the disk read its sector 0 to `into`, and write its sector 1 from there; prints both statuses. */
function copyingGuest(into: number): Uint8Array {
  const requests = new BlockRequests();
  const statuses = [requests.add(TYPE.read, 0, SECTOR, into), requests.add(TYPE.write, 1, SECTOR, into)];
  const { start, offer, waitUsed } = virtioAsm;
  const code = [
    [...start(), ...offer(1), ...waitUsed(1), ...offer(2), ...waitUsed(2)],
    [...statuses.flatMap((at) => asm.printMemory(at, 1)), ...asm.exit(0)],
  ];
  return buildPvhElf(virtioImage(code, requests.chains, requests.data));
}

describe.skipIf(!kvmOpens)('persistent memory (needs /dev/kvm)', () => {
  test('tells where it lies, and is flushed, in each life of a guest that resets itself in the sandbox', async () => {
    using folder = new TemporaryFolder();
    const file = await folder.write('file', new Uint8Array(BYTES));
    const kernel = await folder.write('kernel', flushingGuest(true));

    const run = await runVolt([
      '--kernel',
      kernel,
      '--memory',
      '32M',
      '--cpus',
      '1',
      '--pmem',
      `path=${file}`,
    ]);

    const life = u32s(START % 2 ** 32, START / 2 ** 32, BYTES, 0, 0);
    expect([...run.bytes]).toEqual(Array.from({ length: 5 }, () => life).flat());
    expect(run.stderr).toMatch(/^volt: the guest has reset itself 5 times[^\n]*\n$/);
  });

  test('is memory that other devices read and write, and what is written there is in the file', async () => {
    using folder = new TemporaryFolder();
    const file = await folder.write('file', new Uint8Array(BYTES));
    const disk = await folder.write('disk', new Uint8Array(2 * SECTOR).fill(0x5a, 0, SECTOR));
    const at = BYTES - SECTOR;

    const run = await runKernel(copyingGuest(START + at), ['--disk', disk, '--pmem', `path=${file}`]);

    expect(run.stderr).toBe('');
    expect([...run.bytes]).toEqual([0, 0]);
    const content = readFileSync(file);
    expect([content[at - 1], content[at], content[BYTES - 1]]).toEqual([0, 0x5a, 0x5a]);
    expect(readFileSync(disk)[SECTOR]).toBe(0x5a);
  });

  test('in a file of odd length is padded, and what is written behind its end is lost', async () => {
    using folder = new TemporaryFolder();
    const bytes = 3 * MIB + 5;
    const file = await folder.write('file', new Uint8Array(bytes));
    const disk = await folder.write('disk', new Uint8Array(2 * SECTOR).fill(0x5a, 0, SECTOR));
    const copyTo = (at: number) =>
      runKernel(copyingGuest(START + at), ['--disk', disk, '--pmem', `path=${file}`]);

    const inside = await copyTo(MIB);
    const behind = await copyTo(4 * MIB - SECTOR);

    const warning = `volt: the guest sees 4 MiB, but ${file} has ${bytes} bytes, and writes beyond its end are lost; extend it: truncate -s 4M\n`;
    expect([inside.stderr, behind.stderr]).toEqual([warning, warning]);
    expect([[...inside.bytes], [...behind.bytes]]).toEqual([
      [0, 0],
      [0, 0],
    ]);
    const content = readFileSync(file);
    expect([content.length, content[MIB], content[bytes - 1]]).toEqual([bytes, 0x5a, 0]);
  });

  test('that is read-only takes writes and gives them back, and its file stays as it is', async () => {
    using folder = new TemporaryFolder();
    const file = await folder.write('file', new Uint8Array(3 * MIB + 5).fill(7));
    const disk = await folder.write('disk', new Uint8Array(2 * SECTOR).fill(0x5a, 0, SECTOR));
    const before = statSync(file).mtimeMs;

    const run = await runKernel(copyingGuest(START + MIB), [
      ...['--disk', disk],
      ...['--pmem', `path=${file},readonly`],
    ]);

    expect([...run.bytes]).toEqual([0, 0]);
    expect(readFileSync(disk)[SECTOR]).toBe(0x5a);
    expect(new Set(readFileSync(file))).toEqual(new Set([7]));
    expect(statSync(file).mtimeMs).toBe(before);
  });

  test.each([
    ['between RAM and the memory', START - SECTOR],
    ['across its end', START + BYTES - 1],
  ])('ends where it ends: a buffer %s is refused', async (_what, address) => {
    using folder = new TemporaryFolder();
    const file = await folder.write('file', new Uint8Array(BYTES));
    const disk = await folder.write('disk', new Uint8Array(2 * SECTOR));
    const requests = new BlockRequests();
    requests.add(TYPE.read, 0, SECTOR, address);
    const needsReset = asm.untilZero([...virtioAsm.read(R.status), 0x24, 0x40, 0x34, 0x40]); // and al, 0x40; xor al, 0x40
    const code = [[...virtioAsm.start(), ...virtioAsm.offer(1), ...needsReset, ...asm.exit(0)]];
    const kernel = buildPvhElf(virtioImage(code, requests.chains, requests.data));

    const run = await runKernel(kernel, ['--disk', disk, '--pmem', `path=${file}`]);

    expect([run.stderr, run.exitCode]).toEqual(['', 0]);
  });

  test.each([
    ['{dir}/nothing', 'there is no such file (expected a file that you may write, or readonly)'],
    ['{dir}', 'it is neither a file nor a block device (expected a file or a block device)'],
    ['/dev/null', 'it is neither a file nor a block device (expected a file or a block device)'],
    ['{dir}/empty', 'it has 0 bytes; make it larger: truncate -s 2M FILE'],
  ])('of %s is refused in one line', async (path, found) => {
    using folder = new TemporaryFolder();
    await folder.write('empty', '');
    const place = path.replace('{dir}', folder.path);

    const run = await runKernel(flushingGuest(false), ['--pmem', `path=${place}`]);

    expect(run.stderr).toBe(`volt: Cannot use --pmem ${place}: ${found}\n`);
    expect(run.exitCode).toBe(2);
  });

  test('that is given twice is refused', async () => {
    using folder = new TemporaryFolder();
    const file = await folder.write('file', new Uint8Array(BYTES));

    const run = await runKernel(flushingGuest(false), [
      ...['--pmem', `path=${file}`],
      ...['--pmem', `path=${file}`],
    ]);

    expect(run.stderr).toStartWith(`volt: Cannot use --pmem ${file}: this machine already uses it`);
  });
});

describe.skipIf(!loopsWork)('persistent memory in a file with holes (needs /dev/kvm and root)', () => {
  test('has its room from the start, or is refused', async () => {
    using folder = new TemporaryFolder();
    using small = new SmallFileSystem(folder.at('small'), 6 * MIB);
    const [fits, large] = [`${small.path}/fits`, `${small.path}/large`];
    for (const path of [fits, large]) {
      writeFileSync(path, '');
      truncateSync(path, BYTES);
    }

    const first = await runKernel(flushingGuest(false), ['--pmem', `path=${fits}`]);
    const second = await runKernel(flushingGuest(false), ['--pmem', `path=${large}`]);
    const third = await runKernel(flushingGuest(false), ['--pmem', `path=${large},readonly`]);

    expect([first.exitCode, statSync(fits).blocks * 512]).toEqual([0, BYTES]);
    expect(second.stderr).toBe(
      `volt: Cannot use --pmem ${large}: there is no room for all its ${BYTES} bytes; use a file system with that much free space\n`,
    );
    expect([third.exitCode, statSync(large).blocks]).toEqual([0, 0]);
  });
});

describe.skipIf(!loopsWork)(
  'persistent memory on a block device (needs /dev/kvm, root and loop devices)',
  () => {
    test('is flushed', async () => {
      using folder = new TemporaryFolder();
      using loop = new LoopDevice(folder.at('image'), BYTES);

      const run = await runKernel(flushingGuest(false), ['--pmem', `path=${loop.path}`]);

      expect([...run.bytes.subarray(16)]).toEqual(u32s(0));
    });

    test('that fails has the guest told so', async () => {
      using folder = new TemporaryFolder();
      using small = new SmallFileSystem(folder.at('small'), MIB);
      // More than there is room for behind the device: whoever flushes it first hears of that.
      using loop = new LoopDevice(`${small.path}/image`, BYTES);
      const device = openSync(loop.path, 'r+');
      writeSync(device, new Uint8Array(BYTES).fill(7));

      const run = await runKernel(flushingGuest(false), ['--pmem', `path=${loop.path}`]);

      closeSync(device);
      expect([...run.bytes.subarray(16)]).toEqual(u32s(FAILED));
      expect([run.stderr, run.exitCode]).toEqual(['', 0]);
    });
  },
);
