/** Volt killed while a guest writes and flushes: what was flushed is on the disk. */
import { expect, describe, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { OVERLAY_BLOCK_BYTES as BLOCK, overlayShape } from '../../src/virtio/block/overlay-format.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { asm, buildPvhElf, u32 } from './tiny-guest.ts';
import { AVAIL, DATA, USED, virtioAsm, virtioImage } from './virtio-guest.ts';

setDefaultTimeout(60_000);

const BLOCKS = 64;
const SECTORS_PER_BLOCK = BLOCK / 512;

/**
 * Writes a growing number to block after block, round and round, flushes after each, and then prints the number as
 * four bytes.
 */
function writingGuest(): Uint8Array {
  const [header, flushHeader, status, data] = [DATA, DATA + 16, DATA + 32, DATA + 64];
  const bytes = new Uint8Array(64 + BLOCK);
  bytes[0] = 1; // a write
  bytes[16] = 4; // a flush
  const write = [
    { address: header, length: 16 },
    { address: data, length: BLOCK },
    { address: status, length: 1, writable: true },
  ];
  const flush = [
    { address: flushHeader, length: 16 },
    { address: status + 1, length: 1, writable: true },
  ];
  const addSector = [0x83, 0x05, ...u32(header + 8), SECTORS_PER_BLOCK]; // add dword [address], imm8
  const wrapSector = [0x81, 0x25, ...u32(header + 8), ...u32(BLOCKS * SECTORS_PER_BLOCK - 1)]; // and dword, imm32
  const count = [0xff, 0x05, ...u32(data)]; // inc dword [address]
  const offerTwo = [0x66, 0x83, 0x05, ...u32(AVAIL + 2), 2]; // add word [address], 2
  const notify = virtioAsm.write(R.queueNotify, 0);
  // mov ax, [available index]; cmp ax, [used index]
  const wait = asm.untilZero([0x66, 0xa1, ...u32(AVAIL + 2), 0x66, 0x3b, 0x05, ...u32(USED + 2)]);
  const tell = [...asm.readEax(data), ...asm.printEax(4)];
  const FLUSH_BIT = 1 << 9;
  const loop = asm.forEver([...addSector, ...wrapSector, ...count, ...offerTwo, ...notify, ...wait, ...tell]);
  const chains = [write, flush];
  return virtioImage([virtioAsm.start(FLUSH_BIT), loop], chains, bytes, [0, 1, 0, 1, 0, 1, 0, 1]);
}

/** Runs the guest, kills volt once `numbers` numbers have come, and returns the last one that came. */
async function killAfter(folder: TemporaryFolder, disk: string, numbers: number): Promise<number> {
  const kernel = await folder.write('kernel', buildPvhElf(writingGuest()));
  await using child = Bun.spawn(
    [VOLT, '--kernel', kernel, '--memory', '32M', '--cpus', '1', '--disk', disk],
    {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'inherit',
    },
  );
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of child.stdout) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= 4 * numbers) child.kill('SIGKILL');
  }
  await child.exited;
  return Buffer.concat(pieces).readUInt32LE((Math.floor(bytes / 4) - 1) * 4);
}

/** Blocks that hold less than what the guest had flushed there when it told `last`. */
function lostBlocks(last: number, blockAt: (block: number) => Buffer | undefined): number[] {
  return Array.from({ length: BLOCKS }, (_, block) => block).filter((block) => {
    const newest = last - ((((last - block) % BLOCKS) + BLOCKS) % BLOCKS);
    return newest > 0 && (blockAt(block)?.readUInt32LE(0) ?? 0) < newest;
  });
}

describe.skipIf(!kvmOpens)('a disk whose volt is killed (needs /dev/kvm)', () => {
  test.each([50, 201, 333])('has all that was flushed: after %d flushes', async (numbers) => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(BLOCKS * BLOCK));

    const last = await killAfter(folder, disk, numbers);

    const image = readFileSync(disk);
    expect(last).toBeGreaterThanOrEqual(numbers);
    expect(lostBlocks(last, (block) => image.subarray(block * BLOCK))).toEqual([]);
  });

  test.each([1, 50, 201, 333])(
    'has all that was flushed in its overlay: after %d flushes',
    async (numbers) => {
      using folder = new TemporaryFolder();
      const base = await folder.write('base', new Uint8Array(BLOCKS * BLOCK));

      const last = await killAfter(folder, `path=${base},overlay=${folder.at('overlay')}`, numbers);

      const overlay = readFileSync(folder.at('overlay'));
      const { bitmapOffset, dataOffset } = overlayShape(BLOCKS * BLOCK, 0);
      const inOverlay = (block: number) => (overlay[bitmapOffset + (block >> 3)]! >> (block & 7)) & 1;
      const blockAt = (block: number) =>
        inOverlay(block) ? overlay.subarray(dataOffset + block * BLOCK) : undefined;
      expect(last).toBeGreaterThanOrEqual(numbers);
      expect(lostBlocks(last, blockAt)).toEqual([]);
      expect(readFileSync(base).every((byte) => byte === 0)).toBe(true);
    },
  );
});

/** Reads the first block, prints its first byte, and resets the machine through the keyboard controller. */
function readingGuest(): Uint8Array {
  const read = [
    { address: DATA, length: 16 },
    { address: DATA + 64, length: BLOCK, writable: true },
    { address: DATA + 32, length: 1, writable: true },
  ];
  const code = [
    [...virtioAsm.start(), ...virtioAsm.offer(1), ...virtioAsm.waitUsed(1)],
    [...asm.printMemory(DATA + 64, 1), ...asm.out8(0x64, 0xfe), ...asm.halt()],
  ];
  return virtioImage(code, [read], new Uint8Array(64 + BLOCK));
}

describe.skipIf(!kvmOpens)('a disk whose guest resets itself (needs /dev/kvm)', () => {
  test.each(['', ',engine=sync', ',engine=async', ',overlay={dir}/overlay'])(
    'is there again and again, in the sandbox too: path=FILE%s',
    async (words) => {
      using folder = new TemporaryFolder();
      const disk = await folder.write('disk', new Uint8Array(BLOCKS * BLOCK).fill(0x5a));
      const kernel = await folder.write('kernel', buildPvhElf(readingGuest()));
      const what = `path=${disk}${words.replace('{dir}', folder.path)}`;
      await using child = Bun.spawn(
        [VOLT, '--kernel', kernel, '--memory', '32M', '--cpus', '1', '--disk', what],
        {
          stdin: 'ignore',
          stdout: 'pipe',
          stderr: 'inherit',
        },
      );
      let output = '';
      for await (const piece of child.stdout) {
        output += Buffer.from(piece).toString('latin1');
        if (output.length >= 5) child.kill('SIGKILL');
      }

      expect(output).toMatch(/^Z{5,}$/);
    },
  );
});
