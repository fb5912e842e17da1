import { describe, expect, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { findMultibootHeader } from '../../../src/boot/multiboot.ts';
import { planBoot } from '../../../src/boot/plan-boot.ts';
import { GIB, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { voltErrorOf } from '../support/errors.ts';
import { bootInputs, buildElf, initrdOf, multibootHeader, pvhNote } from './images.ts';

const ADDRESSES = 1 << 16;

/** An ELF whose segment starts with a Multiboot header; the code is behind it. */
function elfWith(header: Uint8Array, bits: 32 | 64 = 32): Uint8Array {
  return buildElf({ bits, entry: MIB + 0x20, content: Uint8Array.of(...header, ...new Uint8Array(0x80)) });
}

/** A flat file of 0x400 bytes with its header at 0x40. */
function flatWith(flags: number, addresses: readonly number[]): Uint8Array {
  const file = new Uint8Array(0x400).fill(0x90);
  file.set(multibootHeader(flags, addresses), 0x40);
  return file;
}

const find = (bytes: Uint8Array) => findMultibootHeader(bytesAsSource('kernel', bytes));
const messageFor = (bytes: Uint8Array, changes?: Parameters<typeof bootInputs>[1]) =>
  voltErrorOf(() => planBoot(bootInputs(bytes, changes))).message;

describe('the header', () => {
  test('is found on a 4-byte boundary in the first 8192 bytes', () => {
    const file = new Uint8Array(9000);
    file.set(multibootHeader(3), 8180);
    expect(find(file)).toMatchObject({ fileOffset: 8180, flags: 3, entryAddress: 0 });
  });

  test.each([8184, 8192, 102])('is not found at %p', (at) => {
    const file = new Uint8Array(9000);
    file.set(multibootHeader(3), at);
    expect(find(file)).toBeUndefined();
  });

  test('with a wrong checksum is none, and the search goes on', () => {
    const file = new Uint8Array(1024);
    file.set(multibootHeader(3), 0);
    file[8] = file[8]! ^ 1;
    file.set(multibootHeader(2), 512);
    expect(find(file)).toMatchObject({ fileOffset: 512, flags: 2 });
  });

  test('with addresses has them read', () => {
    expect(find(flatWith(ADDRESSES, [1, 2, 3, 4, 5]))).toEqual({
      fileOffset: 0x40,
      flags: ADDRESSES,
      headerAddress: 1,
      loadAddress: 2,
      loadEndAddress: 3,
      bssEndAddress: 4,
      entryAddress: 5,
    });
  });

  test('that promises addresses beyond the end is none', () => {
    expect(find(multibootHeader(ADDRESSES))).toBeUndefined();
    expect(find(new Uint8Array(11))).toBeUndefined();
  });
});

describe('an ELF kernel with a Multiboot header', () => {
  test.each([
    [32, '32-bit ELF kernel, Multiboot'],
    [64, '64-bit ELF kernel, Multiboot'],
  ] as const)('of %p bits is entered in protected mode with magic and boot information', (bits, summary) => {
    const plan = planBoot(bootInputs(elfWith(multibootHeader(3), bits)));
    expect(plan).toMatchObject({ protocol: 'multiboot', summary });
    expect(plan.entry).toMatchObject({
      mode: 'protected',
      rip: MIB + 0x20,
      rax: 0x2bad_b002,
      rbx: 0x4000,
      code: { selector: 0x08 },
      data: { selector: 0x10 },
      gdt: { base: 0x500, limit: 31 },
    });
  });

  test('that has a PVH note too is booted by PVH unless Multiboot is asked for', () => {
    const content = Uint8Array.of(...multibootHeader(0), ...new Uint8Array(64));
    const kernel = buildElf({ notes: pvhNote(MIB + 16), content });
    expect(planBoot(bootInputs(kernel)).protocol).toBe('pvh');
    expect(planBoot(bootInputs(kernel), 'multiboot').protocol).toBe('multiboot');
  });

  test('that asks for a video mode starts without one, with a warning', () => {
    const plan = planBoot(bootInputs(elfWith(multibootHeader(7))));
    const info = plan.writes.find((write) => write.name === 'multiboot-info')!.bytes;
    expect(plan.warnings).toEqual([
      'kernel requests a video mode in its Multiboot header; it starts without one, because Volt has no display',
    ]);
    expect(viewOf(info).getUint32(0, true) & ((1 << 11) | (1 << 12))).toBe(0);
    expect(planBoot(bootInputs(elfWith(multibootHeader(3)))).warnings).toBeUndefined();
  });

  test('that demands what no loader knows is refused', () => {
    expect(messageFor(elfWith(multibootHeader(0xf)))).toBe(
      'Cannot load kernel: its Multiboot header requires features 0x8 (expected only page-aligned modules, memory information and video)',
    );
  });

  test('that asks for what a loader may leave out is not', () => {
    expect(planBoot(bootInputs(elfWith(multibootHeader(0x8000_0000)))).protocol).toBe('multiboot');
  });

  test('entered above 4 GiB is refused', () => {
    const kernel = buildElf({
      entry: 4 * GIB,
      segments: [{ paddr: 4 * GIB }],
      content: Uint8Array.of(...multibootHeader(0), ...new Uint8Array(64)),
    });
    expect(messageFor(kernel, { ranges: ramRanges(8 * GIB) })).toBe(
      'Cannot load kernel: its entry point is 0x100000000 (expected an address inside a loaded range and below 4 GiB)',
    );
  });

  test('that gives addresses is loaded and entered by those', () => {
    const header = multibootHeader(ADDRESSES, [MIB, MIB, 0, 0, MIB + 0x40]);
    expect(planBoot(bootInputs(elfWith(header, 64))).entry.rip).toBe(MIB + 0x40);
  });

  test('entered where nothing is loaded is refused', () => {
    const kernel = buildElf({
      bits: 32,
      entry: 0x500_0000,
      content: Uint8Array.of(...multibootHeader(0), ...new Uint8Array(64)),
    });
    expect(messageFor(kernel)).toContain('its entry point is 0x5000000');
  });
});

describe('a flat Multiboot kernel', () => {
  test('is loaded and entered where its header says', () => {
    const plan = planBoot(
      bootInputs(flatWith(ADDRESSES, [MIB + 0x40, MIB, MIB + 0x200, MIB + 0x1000, MIB + 0x80])),
    );
    expect(plan.summary).toBe('flat kernel, Multiboot');
    expect(plan.entry.rip).toBe(MIB + 0x80);
    expect(plan.loads as readonly object[]).toEqual([
      { name: 'kernel', file: 'kernel', fileOffset: 0, fileBytes: 0x200, address: MIB, memoryBytes: 0x1000 },
    ]);
  });

  test('may start behind the start of the file, and load to its end', () => {
    const [load] = planBoot(bootInputs(flatWith(ADDRESSES, [MIB, MIB, 0, 0, MIB]))).loads;
    expect(load).toMatchObject({ fileOffset: 0x40, fileBytes: 0x3c0, memoryBytes: 0x3c0 });
  });

  test.each([
    ['without addresses', 0, []],
    ['that starts before the file', ADDRESSES, [MIB + 0x41, MIB, 0, 0, MIB]],
    ['that ends before it starts', ADDRESSES, [MIB + 0x40, MIB, MIB - 1, 0, MIB]],
    ['that starts behind the file', ADDRESSES, [MIB, MIB + 0x3c0, 0, 0, MIB]],
  ])('%s is refused', (_, flags, addresses) => {
    expect(messageFor(flatWith(flags, addresses))).toBe(
      'Cannot load kernel: its Multiboot header has no valid address fields; correct them, or build an ELF file',
    );
  });

  test('that is truncated is refused', () => {
    expect(messageFor(flatWith(ADDRESSES, [MIB + 0x40, MIB, MIB + 0x401, 0, MIB]))).toBe(
      'Cannot load kernel: it is truncated at 1024 bytes (expected at least 1025 bytes, according to its Multiboot header)',
    );
  });

  test.each([
    [
      'pvh',
      '--boot pvh was given, but it has no PVH note; leave out --boot, or use a kernel for that protocol',
    ],
    [
      'bzimage',
      '--boot bzimage was given, but it is not a bzImage; leave out --boot, or use a kernel for that protocol',
    ],
  ] as const)('cannot be booted by %s', (protocol, message) => {
    const flat = flatWith(ADDRESSES, [MIB + 0x40, MIB, 0, 0, MIB]);
    expect(voltErrorOf(() => planBoot(bootInputs(flat), protocol)).message).toBe(
      `Cannot load kernel: ${message}`,
    );
  });

  test('cannot be booted by linux', () => {
    const flat = flatWith(ADDRESSES, [MIB + 0x40, MIB, 0, 0, MIB]);
    expect(voltErrorOf(() => planBoot(bootInputs(flat), 'linux')).message).toBe(
      'Cannot load kernel: --boot linux was given, but it is a flat Multiboot image; leave out --boot, or use a kernel for that protocol',
    );
  });

  test('is what --boot multiboot asks for in vain of others', () => {
    expect(voltErrorOf(() => planBoot(bootInputs(buildElf()), 'multiboot')).message).toBe(
      'Cannot load kernel: --boot multiboot was given, but it has no Multiboot header; leave out --boot, or use a kernel for that protocol',
    );
  });
});

describe('the boot information', () => {
  const infoOf = (changes?: Parameters<typeof bootInputs>[1]) =>
    viewOf(
      planBoot(bootInputs(elfWith(multibootHeader(3)), changes)).writes.find(
        (write) => write.name === 'multiboot-info',
      )!.bytes,
    );

  test('tells memory, command line, map and loader', () => {
    const info = infoOf({ ranges: ramRanges(512 * MIB) });
    expect(info.getUint32(0, true)).toBe(0x245);
    expect(info.getUint32(4, true)).toBe(639);
    expect(info.getUint32(8, true)).toBe(511 * 1024);
    expect(info.getUint32(16, true)).toBe(0x2_0000);
    const name = info.getUint32(64, true) - 0x4000;
    expect(Buffer.from(info.buffer).toString('latin1', name, name + 5)).toBe('Volt\0');
  });

  test('has a memory map whose entries do not count their own size field', () => {
    const info = infoOf({ ranges: ramRanges(5 * GIB) });
    const at = info.getUint32(48, true) - 0x4000;
    const entries = Array.from({ length: info.getUint32(44, true) / 24 }, (_, i) => [
      info.getUint32(at + 24 * i, true),
      info.getBigUint64(at + 24 * i + 4, true),
      info.getBigUint64(at + 24 * i + 12, true),
      info.getUint32(at + 24 * i + 20, true),
    ]);
    expect(entries).toEqual([
      [20, 0n, 0x9_fc00n, 1],
      [20, 0x9_fc00n, 0x400n, 2],
      [20, 0xf_0000n, 0x1_0000n, 2],
      [20, 0x10_0000n, 0xbff0_0000n, 1],
      [20, 0x1_0000_0000n, 0x8000_0000n, 1],
    ]);
  });

  test('lists the initrd as a module, page-aligned right behind the kernel', () => {
    const info = infoOf({ initrd: initrdOf(5000) });
    const at = info.getUint32(24, true) - 0x4000;
    const start = MIB + 4096;
    expect(info.getUint32(0, true)).toBe(0x24d);
    expect(info.getUint32(20, true)).toBe(1);
    expect([info.getUint32(at, true), info.getUint32(at + 4, true)]).toEqual([start, start + 5000]);
    const string = info.getUint32(at + 8, true) - 0x4000;
    expect(Buffer.from(info.buffer).toString('latin1', string, string + 7)).toBe('initrd\0');
  });

  test('takes a module that is a program, such as the root server of seL4, but none that is empty', () => {
    const kernel = elfWith(multibootHeader(3));
    const withModule = (bytes: Uint8Array) =>
      planBoot(bootInputs(kernel, { initrd: bytesAsSource('module', bytes) })).loads.at(-1)!;

    expect(withModule(buildElf()).file).toBe('initrd');
    expect(voltErrorOf(() => withModule(new Uint8Array())).message).toContain('the file is empty');
  });
});
