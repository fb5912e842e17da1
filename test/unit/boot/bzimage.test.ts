import { describe, expect, test } from 'bun:test';
import { planBoot } from '../../../src/boot/plan-boot.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { GIB, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { voltErrorOf } from '../support/errors.ts';
import { bootInputs, buildBzImage, hugeSource, initrdOf, type BzImageSpec } from './images.ts';

const plan = (spec?: BzImageSpec, changes?: Parameters<typeof bootInputs>[1]) =>
  planBoot(bootInputs(buildBzImage(spec), changes));
const messageFor = (spec: BzImageSpec, changes?: Parameters<typeof bootInputs>[1]) =>
  voltErrorOf(() => plan(spec, changes)).message;

describe('a bzImage', () => {
  test('is entered 0x200 behind the start of its code, in long mode, with the zero page in RSI', () => {
    const { protocol, entry, summary } = plan();
    expect(protocol).toBe('bzimage');
    expect(entry).toMatchObject({ mode: 'long', rip: 0x10_0200, rsi: 0x7000 });
    expect(summary).toBe('Linux 6.1.0-42-amd64 bzImage, 64-bit entry');
  });

  test.each([
    [3, 4 * 512],
    [0, 5 * 512],
    [39, 40 * 512],
  ])('with setup_sects %p has its code at file offset %p, which goes to 1 MiB', (setupSects, fileOffset) => {
    const [load] = plan({ setupSects }).loads;
    expect(load as object).toMatchObject({
      name: 'kernel',
      file: 'kernel',
      fileOffset,
      fileBytes: 0x4000,
      address: 0x10_0000,
    });
  });

  test('claims the memory in which it unpacks itself, at its preferred address', () => {
    const [load] = plan({ prefAddress: 0x100_0000, initSize: 0x200_0000 }).loads;
    expect(load!.address + load!.memoryBytes).toBe(0x300_0000);
  });

  test('that prefers an address below where it is loaded unpacks at the next aligned one', () => {
    const [load] = plan({ prefAddress: 0, kernelAlignment: 0x20_0000, initSize: 0x100_0000 }).loads;
    expect(load!.address + load!.memoryBytes).toBe(0x20_0000 + 0x100_0000);
  });

  test('finds its own setup header in the zero page, with what the loader adds', () => {
    const image = buildBzImage();
    const { writes } = planBoot(bootInputs(image));
    const { bytes } = writes.find((write) => write.name === 'zero-page')!;
    const view = viewOf(bytes);
    expect(bytes.subarray(0x1f1, 0x210)).toEqual(image.subarray(0x1f1, 0x210));
    expect(bytes.subarray(0x22c, 0x26c)).toEqual(image.subarray(0x22c, 0x26c));
    expect(view.getUint8(0x210)).toBe(0xff);
    expect(view.getUint32(0x228, true)).toBe(0x2_0000);
    expect(view.getUint8(0x1e8)).toBe(4);
  });

  test('keeps nothing of its file beyond its setup header, whose end the jump tells', () => {
    const image = buildBzImage();
    image.fill(0xee, 0x26c, 0x300);
    const { bytes } = planBoot(bootInputs(image)).writes.find((write) => write.name === 'zero-page')!;
    expect(new Set(bytes.subarray(0x26c, 0x2d0))).toEqual(new Set([0]));
  });

  test('has its initrd no higher than it says it can reach', () => {
    const changes = { initrd: initrdOf(4096), ranges: ramRanges(GIB) };
    expect(plan({ initrdAddrMax: 0x37ff_ffff }, changes).loads[1]!.address as number).toBe(
      0x3800_0000 - 4096,
    );
    expect(plan({ initrdAddrMax: 0x7fff_ffff }, changes).loads[1]!.address as number).toBe(GIB - 4096);
  });

  test('has its initrd above the memory in which it unpacks itself', () => {
    const initrd = hugeSource('initrd', 128 * MIB - 0x200_0000);
    expect(plan({}, { initrd }).loads[1]!.address as number).toBe(0x200_0000);
    expect(messageFor({ initSize: 0x100_0001 }, { initrd })).toStartWith(
      'Cannot load initrd: initrd of 100663296 bytes does not fit into RAM',
    );
  });

  test('gets a command line as long as it says', () => {
    const { writes } = plan({ cmdlineSize: 5 }, { cmdline: 'quiet' });
    expect(writes.find((write) => write.name === 'command-line')!.bytes.length).toBe(6);
    expect(messageFor({ cmdlineSize: 5 }, { cmdline: 'quiet2' })).toBe(
      'Cannot pass --cmdline: it has 6 bytes (expected at most 5 for this kernel)',
    );
  });

  test('without a version string is simply a kernel', () => {
    const image = buildBzImage();
    image.fill(0, 0x20e, 0x210);
    expect(planBoot(bootInputs(image)).summary).toBe('Linux kernel bzImage, 64-bit entry');
  });
});

describe('a bzImage is refused', () => {
  test.each([
    [
      'when it is too old',
      { version: 0x020b },
      'its boot protocol is 2.11 (expected 2.12 or later, of Linux 3.8)',
    ],
    [
      'when it has no 64-bit entry',
      { xloadFlags: 0 },
      'it is a 32-bit Linux kernel (expected one for x86-64)',
    ],
    ['when it is a zImage', { loadFlags: 0 }, 'it is a zImage (expected a bzImage)'],
    [
      'when its payload goes beyond its end',
      { payloadLength: 0x4000 },
      'it is truncated at 18432 bytes (expected at least 19200 bytes)',
    ],
    [
      'when its preferred address is no address',
      { prefAddress: 2 ** 52 },
      'its preferred address is 0x10000000000000 (expected an address in RAM)',
    ],
    [
      'when it does not fit into RAM',
      { initSize: 0x800_0000 },
      'kernel up to 0x9000000 does not fit into RAM, which ends at 0x8000000; use --memory 144M or more',
    ],
  ])('%s', (_, spec, message) => {
    expect(messageFor(spec)).toBe(`Cannot load kernel: ${message}`);
  });

  test.each([0x206, 0x263])('when it ends at byte %p of its setup header', (bytes) => {
    const image = buildBzImage().subarray(0, bytes);
    expect(voltErrorOf(() => planBoot(bootInputs(image))).message).toBe(
      'Cannot load kernel: it is truncated inside its setup header (expected a whole bzImage)',
    );
  });

  test.each([0x264, 0x600, 0x800, 0xa00])('when it ends at byte %p, before its code', (bytes) => {
    const image = buildBzImage({ payloadOffset: 0, payloadLength: 0 }).subarray(0, bytes);
    expect(voltErrorOf(() => planBoot(bootInputs(image))).message).toStartWith(
      `Cannot load kernel: it is truncated at ${bytes} bytes (expected at least`,
    );
  });

  test('with a figure that is more than the file has', () => {
    const image = buildBzImage({ payloadOffset: 0, payloadLength: 0 }).subarray(0, 0xa00);
    expect(voltErrorOf(() => planBoot(bootInputs(image))).message).not.toContain('at least 2048 bytes');
  });

  test('when it is to be booted by another protocol', () => {
    expect(voltErrorOf(() => planBoot(bootInputs(buildBzImage()), 'linux')).message).toBe(
      'Cannot load kernel: --boot linux was given, but it is a bzImage; leave out --boot, or use a kernel for that protocol',
    );
  });
});
