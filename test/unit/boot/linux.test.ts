import { describe, expect, test } from 'bun:test';
import { planBoot } from '../../../src/boot/plan-boot.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { GIB, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { voltErrorOf } from '../support/errors.ts';
import { bootInputs, buildElf, hugeSource, initrdOf, LINUX_NOTE, pvhNote, type ElfSpec } from './images.ts';

const KERNEL: ElfSpec = {
  notes: LINUX_NOTE,
  entry: 0x100_0000,
  segments: [{ paddr: 0x100_0000, vaddr: 0x4000_0000, memoryBytes: 0x20_0000 }],
};

const vmlinux = (spec: ElfSpec = {}) => buildElf({ ...KERNEL, ...spec });

describe('a vmlinux', () => {
  test('is entered in long mode with the zero page in RSI', () => {
    const plan = planBoot(bootInputs(vmlinux()));
    expect(plan.protocol).toBe('linux');
    expect(plan.entry).toMatchObject({ mode: 'long', rip: 0x100_0000, rsi: 0x7000 });
    expect(plan.summary).toBe('ELF kernel, 64-bit Linux boot protocol');
  });

  test('is given GDT, page tables, zero page and command line', () => {
    const { writes } = planBoot(bootInputs(vmlinux()));
    expect(writes.map(({ name, address }) => [name, address] as unknown)).toEqual([
      ['gdt', 0x500],
      ['page-tables', 0x9000],
      ['zero-page', 0x7000],
      ['command-line', 0x2_0000],
      ['interrupt-vectors', 0],
      ['bios-data-area', 0x400],
      ['real-mode-handlers', 0xf_ff00],
    ]);
  });

  test('finds its command line with a NUL at its end', () => {
    const { writes } = planBoot(bootInputs(vmlinux(), { cmdline: 'console=ttyS0 ö' }));
    const line = writes.find((write) => write.name === 'command-line')!;
    expect(Buffer.from(line.bytes).toString('utf8')).toBe('console=ttyS0 ö\0');
  });

  test('with a virtual entry point is entered at the physical one', () => {
    const plan = planBoot(bootInputs(vmlinux({ entry: 0x4000_0040 })));
    expect(plan.entry.rip).toBe(0x100_0040);
  });

  test('that carries a PVH note too is booted by the Linux protocol', () => {
    const notes = Uint8Array.of(...LINUX_NOTE, ...pvhNote(0x100_0000));
    expect(planBoot(bootInputs(vmlinux({ notes }))).protocol).toBe('linux');
    expect(planBoot(bootInputs(vmlinux({ notes })), 'pvh').protocol).toBe('pvh');
  });

  test('without any note is booted by the Linux protocol', () => {
    const bare = buildElf({ entry: 0x10_0000 });
    expect(planBoot(bootInputs(bare)).protocol).toBe('linux');
  });

  test('may use a command line of 2047 bytes and no more', () => {
    const plan = planBoot(bootInputs(vmlinux(), { cmdline: 'x'.repeat(2047) }));
    expect(plan.writes.find((write) => write.name === 'command-line')!.bytes.length).toBe(2048);
    expect(voltErrorOf(() => planBoot(bootInputs(vmlinux(), { cmdline: 'ö'.repeat(1024) })))).toEqual({
      code: 'usage',
      message: 'Cannot pass --cmdline: it has 2048 bytes (expected at most 2047 for this kernel)',
    });
  });

  test('gets no command line with a NUL in it', () => {
    expect(voltErrorOf(() => planBoot(bootInputs(vmlinux(), { cmdline: 'a\0b' })))).toEqual({
      code: 'usage',
      message: 'Cannot pass --cmdline: it contains a NUL character; remove it',
    });
  });

  test.each([
    [0x300_0000, '0x3000000'],
    [0, '0x0'],
  ])('entered outside its segments at %p is refused', (entry, text) => {
    expect(voltErrorOf(() => planBoot(bootInputs(vmlinux({ entry })))).message).toBe(
      `Cannot load kernel: its entry point is ${text} (expected an address inside one of its segments and below 1 GiB)`,
    );
  });

  test('entered above the first GiB, which is all that is mapped, is refused', () => {
    const spec = { entry: GIB, segments: [{ paddr: GIB }] };
    expect(
      voltErrorOf(() => planBoot(bootInputs(vmlinux(spec), { ranges: ramRanges(2 * GIB) }))).message,
    ).toContain('its entry point is 0x40000000');
  });

  test('of 32 bits without another entry is refused', () => {
    expect(voltErrorOf(() => planBoot(bootInputs(buildElf({ bits: 32 })))).message).toBe(
      'Cannot load kernel: it is a 32-bit ELF file without a PVH note or Multiboot header (expected a 64-bit kernel, or a 32-bit one with either)',
    );
  });
});

describe('an initrd', () => {
  const initrdLoad = (memoryBytes: number, initrdBytes: number) =>
    planBoot(
      bootInputs(vmlinux(), { initrd: hugeSource('initrd', initrdBytes), ranges: ramRanges(memoryBytes) }),
    ).loads.at(-1)!;

  test('lies as high as low memory allows, page-aligned', () => {
    const load = initrdLoad(128 * MIB, 5000);
    expect(load as object).toEqual({
      name: 'initrd',
      file: 'initrd',
      fileOffset: 0,
      fileBytes: 5000,
      address: 128 * MIB - 8192,
      memoryBytes: 5000,
    });
  });

  test('stays below 2 GiB, whatever the memory', () => {
    expect(initrdLoad(16 * GIB, MIB).address as number).toBe(2 * GIB - MIB);
  });

  test('is named in the zero page', () => {
    const { writes } = planBoot(bootInputs(vmlinux(), { initrd: initrdOf(5000) }));
    const zeroPage = viewOf(writes.find((write) => write.name === 'zero-page')!.bytes);
    expect(zeroPage.getUint32(0x218, true)).toBe(128 * MIB - 8192);
    expect(zeroPage.getUint32(0x21c, true)).toBe(5000);
  });

  test('may fill memory down to the end of the kernel', () => {
    const kernelEnd = 0x120_0000;
    expect(initrdLoad(128 * MIB, 128 * MIB - kernelEnd).address as number).toBe(kernelEnd);
  });

  test('that is one byte longer is refused, with the memory it would need', () => {
    expect(voltErrorOf(() => initrdLoad(128 * MIB, 128 * MIB - 0x120_0000 + 1))).toEqual({
      code: 'image',
      message:
        'Cannot load initrd: initrd of 115343361 bytes does not fit into RAM, which ends at 0x8000000; use --memory 129M or more',
    });
  });

  test('that is too large for the 2 GiB it must lie below is not blamed on --memory', () => {
    const { message } = voltErrorOf(() => initrdLoad(16 * GIB, 2 * GIB));
    expect(message).not.toContain('--memory');
  });
});

describe('segments', () => {
  const messageFor = (segments: ElfSpec['segments'], memoryBytes = 128 * MIB) =>
    voltErrorOf(() =>
      planBoot(
        bootInputs(vmlinux({ entry: segments![0]!.paddr!, segments: segments! }), {
          ranges: ramRanges(memoryBytes),
        }),
      ),
    ).message;

  test('beyond the end of RAM are refused with the memory they need', () => {
    expect(messageFor([{ paddr: 0x100_0000 }, { paddr: 128 * MIB - 255 }])).toBe(
      'Cannot load kernel: kernel-segment-1 up to 0x8000001 does not fit into RAM, which ends at 0x8000000; use --memory 129M or more',
    );
  });

  test('in the firmware area are refused', () => {
    expect(messageFor([{ paddr: 0x9_fb01 }])).toBe(
      'Cannot load kernel: its kernel-segment-0 at 0x9fb01 covers the firmware area (expected segments below 0x9fc00 or from 1 MiB)',
    );
  });

  test('below it are fine where nothing else lies', () => {
    const plan = planBoot(bootInputs(vmlinux({ entry: 0x4_0000, segments: [{ paddr: 0x4_0000 }] })));
    expect(plan.entry.rip).toBe(0x4_0000);
  });

  test('over a structure that Volt writes are refused', () => {
    expect(messageFor([{ paddr: 0x100_0000 }, { paddr: 0x6f01 }])).toBe(
      'Cannot load kernel: its kernel-segment-1 and zero-page overlap at 0x7000 (expected disjoint memory ranges)',
    );
  });

  test('over one another are refused', () => {
    expect(messageFor([{ paddr: 0x100_0000 }, { paddr: 0x100_00ff }])).toBe(
      'Cannot load kernel: its kernel-segment-0 and kernel-segment-1 overlap at 0x10000ff (expected disjoint memory ranges)',
    );
  });

  test('over the BIOS data area are refused', () => {
    expect(messageFor([{ paddr: 0x100_0000 }, { paddr: 0x400, fileBytes: 0x80 }])).toContain('overlap');
  });

  test('in the MMIO hole are not blamed on --memory', () => {
    const hole = [{ paddr: 0x100_0000 }, { paddr: 0xd000_0000 }];
    expect(messageFor(hole, 16 * GIB)).not.toContain('--memory');
  });
});
