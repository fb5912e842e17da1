/** What a guest finds on its buses: ports, memory that is not there, the clock, RAM above 4 GiB. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { buildElf } from '../cli/images.ts';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { runGuest, runKernel } from './guest-run.ts';
import { asm, program, u32 } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const NOBODYS_PORT = 0x5678;
const IN_THE_MMIO_HOLE = 0xd000_0000;
const SCRATCH_REGISTER = 0x3ff;

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe.skipIf(!kvmOpens)('ports (needs /dev/kvm)', () => {
  test('that nobody answers read as all ones in every size', async () => {
    const code = program(
      [...asm.in8(NOBODYS_PORT), ...asm.printEax(1)],
      [...asm.in16(NOBODYS_PORT), ...asm.printEax(2)],
      [...asm.in32(NOBODYS_PORT), ...asm.printEax(4)],
      [...asm.in32(0xcfc), ...asm.printEax(4)],
      asm.exit(0),
    );

    const { bytes, stderr, exitCode } = await runGuest(code);

    expect(hexOf(bytes)).toBe('ff'.repeat(11));
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('that nobody answers swallow writes of every size', async () => {
    const code = program(
      asm.out8(NOBODYS_PORT, 1),
      asm.out16(NOBODYS_PORT, 0x0201),
      asm.out32(NOBODYS_PORT, 0x0403_0201),
      asm.out8(0x80, 0x42),
      asm.print('on'),
      asm.exit(0),
    );

    const { stdout, exitCode } = await runGuest(code);

    expect(stdout).toBe('on');
    expect(exitCode).toBe(0);
  });

  test('of 8-bit devices take wider accesses as bytes at consecutive ports', async () => {
    const lineControlToLineStatus = 0x3fb;
    const code = program(
      asm.out8(SCRATCH_REGISTER, 0xa5),
      [...asm.in8(SCRATCH_REGISTER), ...asm.printEax(1)],
      asm.out16(0x3fe, 0x5a00),
      [...asm.in16(0x3fe), ...asm.printEax(2)],
      asm.out8(lineControlToLineStatus, 0x03),
      [...asm.in32(0x3fa), ...asm.printEax(4)],
      asm.exit(0),
    );

    const { bytes } = await runGuest(code);

    // Modem status: CTS, DSR and carrier. Interrupt identity: none. Modem control: OUT2. Line status: empty.
    expect(hexOf(bytes)).toBe(['a5', 'b05a', '01030860'].join(''));
  });

  test('of the IMCR, as a kernel sets it that finds its bit in the MP floating pointer', async () => {
    const code = program(
      asm.out8(0x22, 0x70),
      [...asm.in8(0x23), ...asm.printEax(1)],
      asm.out8(0x23, 1),
      [...asm.in8(0x23), ...asm.printEax(1)],
      asm.exit(0),
    );

    const { bytes } = await runGuest(code);

    expect(hexOf(bytes)).toBe('0001');
  });

  test('take strings: rep outsb prints memory', async () => {
    const text = 'printed by one instruction, '.repeat(200);
    const codeBytes = program(asm.printMemory(0, text.length), asm.exit(0)).length;
    const code = program(asm.printMemory(0x10_0000 + codeBytes, text.length), asm.exit(0));

    const { stdout, exitCode } = await runGuest(Buffer.concat([code, Buffer.from(text)]));

    expect(stdout).toBe(text);
    expect(exitCode).toBe(0);
  });

  test('give strings: rep insb reads a port again and again', async () => {
    const buffer = 0x20_0000;
    const repInsb = [0xbf, ...u32(buffer), 0xb9, ...u32(3), 0xba, ...u32(SCRATCH_REGISTER), 0xfc, 0xf3, 0x6c];
    const code = program(asm.out8(SCRATCH_REGISTER, 0x77), repInsb, asm.printMemory(buffer, 4), asm.exit(0));

    const { bytes } = await runGuest(code);

    expect(hexOf(bytes)).toBe('77777700');
  });
});

describe.skipIf(!kvmOpens)('the CMOS clock (needs /dev/kvm)', () => {
  test('shows the time of the host in UTC', async () => {
    const buffer = 0x20_0000;
    const read = (register: number) => [...asm.out8(0x70, register), ...asm.in8(0x71)];
    const fields = [0x32, 0x09, 0x08, 0x07, 0x04, 0x02];
    // Once more from the start if the second changed meanwhile.
    const readAll = asm.untilZero([
      ...[...read(0x00), 0x88, 0xc3], // mov bl, al
      ...fields.flatMap((register, i) => [...read(register), ...asm.storeAl(buffer + i)]),
      ...[...read(0x00), ...asm.storeAl(buffer + fields.length), 0x38, 0xd8], // cmp al, bl
    ]);
    const before = Math.floor(Date.now() / 1000) * 1000;

    const { bytes } = await runGuest(program(readAll, asm.printMemory(buffer, 7), asm.exit(0)));

    const after = Date.now();
    const [century, year, month, day, hours, minutes, seconds] = hexOf(bytes).match(/../g)!.map(Number);
    const shown = Date.UTC(century! * 100 + year!, month! - 1, day!, hours!, minutes!, seconds!);
    expect(shown).toBeGreaterThanOrEqual(before);
    expect(shown).toBeLessThanOrEqual(after);
  });
});

describe.skipIf(!kvmOpens)('memory (needs /dev/kvm)', () => {
  test('that is not there reads as all ones and swallows writes', async () => {
    const code = program(
      [...asm.loadEax(0x1234_5678), ...asm.storeEax(IN_THE_MMIO_HOLE)],
      [...asm.readEax(IN_THE_MMIO_HOLE), ...asm.printEax(4)],
      [0xa0, ...u32(IN_THE_MMIO_HOLE + 3), ...asm.printEax(1)], // mov al, [address]
      [...asm.readEax(0x0a00_0000), ...asm.printEax(4)],
      asm.exit(0),
    );

    const { bytes, stderr, exitCode } = await runGuest(code);

    expect(hexOf(bytes)).toBe('ff'.repeat(9));
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('of a 6 GiB guest lies below 3 GiB and from 4 GiB to 7 GiB', async () => {
    const GIB = 0x4000_0000;
    const PAGE_BYTES = 2 * 1024 * 1024;
    const ram = [64 * PAGE_BYTES, 3 * GIB - PAGE_BYTES, 4 * GIB, 5 * GIB, 7 * GIB - PAGE_BYTES];
    const nothing = [3 * GIB, 7 * GIB];
    const code = probeGuest([...ram, ...nothing]);

    const { bytes, stderr, exitCode } = await runKernel(buildElf({ segments: [{ content: code }] }), [
      '--memory',
      '6G',
    ]);

    const words = Array.from({ length: 7 }, (_, i) =>
      Buffer.from(bytes)
        .readUInt32LE(4 * i)
        .toString(16),
    );
    expect(stderr).toBe('');
    expect(words).toEqual(['c0de00', 'c0de01', 'c0de02', 'c0de03', 'c0de04', 'ffffffff', 'ffffffff']);
    expect(exitCode).toBe(0);
  });

  test('holds the MP tables that volt inspect finds right, at 0x9FC00 and for 60 CPUs at 0xF0000', async () => {
    const [few, many] = [await readBackTables(3, 0x9_fc10), await readBackTables(60, 0xf_0000)];

    expect(few).toEqual({ processors: 3, problems: [], exitCode: 0 });
    expect(many).toEqual({ processors: 60, problems: [], exitCode: 0 });
  });
});

/**
 * 64-bit code that maps each address (in 2 MiB steps, by a page directory of its own at virtual 4 GiB), writes a word
 * of its own to each, and only then prints what each of them holds.
 */
function probeGuest(addresses: readonly number[]): Uint8Array {
  const PDPT_ENTRY_OF_4_GIB = 0xa020;
  const PAGE_DIRECTORY = 0x5_0000;
  const store = (address: number, value: number) => [0xc7, 0x04, 0x25, ...u32(address), ...u32(value)];
  const pointAt = (i: number) => [0x48, 0xbb, ...u32(i * 0x20_0000), ...u32(1)]; // mov rbx, 4 GiB + i * 2 MiB
  const map = addresses.flatMap((address, i) => [
    ...store(PAGE_DIRECTORY + 8 * i, (address % 2 ** 32) + 0x83),
    ...store(PAGE_DIRECTORY + 8 * i + 4, Math.floor(address / 2 ** 32)),
  ]);
  const reloadCr3 = [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8];
  const write = addresses.flatMap((_, i) => [...pointAt(i), 0xc7, 0x03, ...u32(0xc0_de00 + i)]);
  const print = addresses.flatMap((_, i) => [...pointAt(i), 0x8b, 0x03, ...asm.printEax(4)]);
  const mapped = [...store(PDPT_ENTRY_OF_4_GIB, PAGE_DIRECTORY + 3), ...map, ...reloadCr3];
  return program(mapped, write, print, asm.exit(0));
}

const FLOATING_POINTER = 0x9_fc00;
const TABLE_BYTES = 0x600;

/** Lets a guest print its tables, puts them into a memory dump, and has volt read that. */
async function readBackTables(cpus: number, tableAddress: number) {
  using folder = new TemporaryFolder();
  const guest = program(
    asm.printMemory(FLOATING_POINTER, 16),
    asm.printMemory(tableAddress, TABLE_BYTES),
    asm.exit(0),
  );
  const { bytes } = await runGuest(guest, ['--cpus', String(cpus)]);
  const dump = new Uint8Array(0x10_0000);
  dump.set(bytes.subarray(16), tableAddress);
  dump.set(bytes.subarray(0, 16), FLOATING_POINTER);
  const path = await folder.write('memory', dump);
  const { stdout, exitCode } = await runVolt(['inspect', '--json', '--from', path]);
  const { mpTables, problems } = JSON.parse(stdout);
  const processors = mpTables.configTable.entries.filter(
    (entry: { type: string }) => entry.type === 'processor',
  );
  return { processors: processors.length, problems, exitCode };
}
