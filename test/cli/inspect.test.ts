/** `volt inspect`: the plan in words, as JSON and as files, and tables read back from files. None of it needs KVM. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { buildBzImage, buildElf, buildFlatMultiboot } from './images.ts';
import { runVolt, TemporaryFolder } from './volt-process.ts';

setDefaultTimeout(120_000);

interface Entry {
  readonly type: string;
  readonly apicId: number;
}

function processorsOf(json: string): number[] {
  const { mpTables } = JSON.parse(json);
  const entries: Entry[] = mpTables.configTable.entries;
  return entries.filter((entry) => entry.type === 'processor').map((entry) => entry.apicId);
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

/** Dumps the machine's structures and gives the folder's file names. */
async function dump(folder: TemporaryFolder, flags: readonly string[]): Promise<string[]> {
  await runVolt(['inspect', ...flags, '--dump', folder.path]);
  return readdirSync(folder.path).sort();
}

describe('volt inspect', () => {
  test('tells the memory map, the tables, the CPUs and the entry in words', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['inspect', '--cpus', '2', '--memory', '4G']);

    expect(stdout).toContain('Boot      64-bit ELF kernel, PVH entry\n');
    expect(stdout).toContain('  0x00009fc00-0x00009fc0f      16 B  mp-floating-pointer\n');
    expect(stdout).toContain('  0x00009fc10-0x00009fcf3     228 B  mp-config-table\n');
    expect(stdout).toContain('  0x100000000-0x13fffffff  1024 MiB  RAM\n');
    expect(stdout).toContain('MP tables 244 bytes, floating pointer and configuration table\n');
    expect(stdout).toContain('    processor     APIC id 0, version 0x14, BSP\n');
    expect(stdout).toContain('    I/O APIC      id 2, version 0x11 at 0xfec00000\n');
    expect(stdout).toContain('    interrupt     bus 0 IRQ 0 -> APIC 2 pin 0, ExtINT\n');
    expect(stdout).toContain('ACPI      1058 bytes in 6 tables, RSDP at 0xeffc0\n');
    expect(stdout).toContain('  0 BSP        0   0    0      0    -        0  SMT 1>>0, core 2>>1\n');
    expect(stdout).toContain('Entry     32-bit protected mode\n  rip 0x1');
    expect(stdout).toEndWith('Checks    checksums, counts, ids and overlaps: no problems\n');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('tells what kernel and initrd files take of the memory', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('vmlinuz', buildBzImage());
    const initrd = await folder.write('initrd', new Uint8Array(5000));

    const { stdout, exitCode } = await runVolt([
      'inspect',
      '--kernel',
      kernel,
      '--initrd',
      initrd,
      '--memory',
      '64M',
    ]);

    expect(stdout).toContain('Boot      Linux kernel bzImage, 64-bit entry\n');
    expect(stdout).toMatch(
      /0x000100000-0x0010fffff? .* kernel \(from --kernel\)\n|kernel \(from --kernel\)\n/,
    );
    expect(stdout).toContain('  0x003ffe000-0x003fff387   4.9 KiB  initrd (from --initrd)\n');
    expect(stdout).toContain('Entry     64-bit long mode\n  rip 0x100200  ');
    expect(exitCode).toBe(0);
  });

  test('tells the devices, with the addresses and interrupts that the guest finds them at', async () => {
    const { stdout } = await runVolt(['inspect', '--rng', '--disk', 'path=/dev/null,id=root']);

    expect(stdout).toMatch(/^Devices   virtio MMIO$/m);
    expect(stdout).toMatch(/^  0x0d0000000-0x0d0000fff +4 KiB  GSI  5  block root$/m);
    expect(stdout).toMatch(/^  0x0d0001000-0x0d0001fff +4 KiB  GSI  6  entropy \w+$/m);
  });

  test.each([1, 2, 4, 41, 42, 60, 254])('with %d CPUs finds nothing wrong, as JSON', async (cpus) => {
    const { stdout, stderr, exitCode } = await runVolt(['inspect', '--json', '--cpus', String(cpus)]);

    const plan = JSON.parse(stdout);
    const pairs = plan.cpus.map((cpu: { apicId: number; cpuid: { x2apicId: number } }) => [
      cpu.apicId,
      cpu.cpuid.x2apicId,
    ]);
    expect(processorsOf(stdout)).toEqual(upTo(cpus));
    expect(pairs).toEqual(upTo(cpus).map((id) => [id, id]));
    expect(plan.mpTables.floatingPointerAddress).toBe(0x9_fc00);
    expect(plan.problems).toEqual([]);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test.each([
    [1, 224],
    [2, 244],
    [4, 284],
  ])('counts the tables of %d CPUs as %d bytes', async (cpus, bytes) => {
    const { stdout } = await runVolt(['inspect', '--json', '--cpus', String(cpus)]);

    expect(JSON.parse(stdout).mpTables.bytes).toBe(bytes);
  });

  test('gives the same whenever it is asked', async () => {
    const first = await runVolt(['inspect', '--json', '--cpus', '7']);
    const second = await runVolt(['inspect', '--json', '--cpus', '7']);

    expect(second.stdout).toBe(first.stdout);
  });
});

describe('volt inspect of a Multiboot kernel', () => {
  test('that requests a video mode warns, and is no failure', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildFlatMultiboot({ flags: 0x1_0004 }));

    const { stderr, exitCode } = await runVolt(['inspect', '--kernel', kernel]);

    expect(stderr).toContain('requests a video mode in its Multiboot header');
    expect(exitCode).toBe(0);
  });
});

describe('volt inspect --dump', () => {
  test('writes a file for each structure, named by structure and guest address', async () => {
    using folder = new TemporaryFolder();
    using kernels = new TemporaryFolder();
    const kernel = await kernels.write('kernel', buildElf());

    const files = await dump(folder, ['--kernel', kernel, '--cpus', '2', '--no-acpi']);

    expect(files).toEqual([
      'bios-data-area@0x400.bin',
      'command-line@0x20000.bin',
      'gdt@0x500.bin',
      'interrupt-vectors@0x0.bin',
      'mp-config-table@0x9fc10.bin',
      'mp-floating-pointer@0x9fc00.bin',
      'page-tables@0x9000.bin',
      'real-mode-handlers@0xfff00.bin',
      'reset-vector@0xffff0.bin',
      'zero-page@0x7000.bin',
    ]);
  });

  test('has the ACPI tables among them', async () => {
    using folder = new TemporaryFolder();

    const files = await dump(folder, ['--no-mptable']);

    const acpi = files.filter((file) => file.startsWith('acpi-')).map((file) => file.split('@')[0]!);
    expect(acpi).toEqual(
      ['dsdt', 'fadt', 'madt', 'pptt', 'rsdp', 'rsdt', 'spcr', 'xsdt'].map((name) => `acpi-${name}`),
    );
    expect(files.filter((file) => file.startsWith('mp-'))).toEqual([]);
  });

  test('makes the folder, and names the files with --log-level info', async () => {
    using folder = new TemporaryFolder();
    const target = folder.at('new/folder');

    const { stderr, exitCode } = await runVolt(['inspect', '--dump', target, '--log-level', 'info']);

    expect(stderr).toContain(`volt: wrote ${target}/gdt@0x500.bin\n`);
    expect(readdirSync(target)).toHaveLength(stderr.trimEnd().split('\n').length);
    expect(exitCode).toBe(0);
  });

  test('to where a file is: one line and exit code 1', async () => {
    using folder = new TemporaryFolder();
    const file = await folder.write('file', 'in the way');

    const { stdout, stderr, exitCode } = await runVolt(['inspect', '--dump', file]);

    expect(stderr).toMatch(new RegExp(`^volt: Cannot write --dump ${file}: EEXIST[^\n]*\n$`));
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });
});

describe('volt inspect --from', () => {
  test.each([
    [2, '0x9fc10'],
    [60, '0xf0000'],
  ])('reads the dumped table of %d CPUs back', async (cpus, address) => {
    using folder = new TemporaryFolder();
    await dump(folder, ['--cpus', String(cpus)]);
    const table = folder.at(`mp-config-table@${address}.bin`);

    const asJson = await runVolt(['inspect', '--json', '--from', table]);
    const asText = await runVolt(['inspect', '--from', table]);

    expect(processorsOf(asJson.stdout)).toEqual(upTo(cpus));
    expect(JSON.parse(asJson.stdout).problems).toEqual([]);
    expect(asText.stdout).toContain(`    processor     APIC id ${cpus - 1}, version 0x14\n`);
    expect([asJson.stderr, asText.stderr]).toEqual(['', '']);
    expect([asJson.exitCode, asText.exitCode]).toEqual([0, 0]);
  });

  test.each([2, 60])('reads a memory dump with the tables of %d CPUs, as the plan has them', async (cpus) => {
    using folder = new TemporaryFolder();
    const memory = await folder.write('memory', await memoryDump(cpus));

    const plan = await runVolt(['inspect', '--json', '--cpus', String(cpus)]);
    const { stdout, exitCode } = await runVolt(['inspect', '--json', '--from', memory]);

    expect(JSON.parse(stdout).mpTables).toEqual(JSON.parse(plan.stdout).mpTables);
    expect(exitCode).toBe(0);
  });

  test.each([
    ['a flipped bit in an entry', 0x9_fc10 + 44 + 1, 'APIC id 1 is used twice'],
    ['a wrong checksum', 0x9_fc10 + 7, 'MP configuration table: the bytes sum to 1 (expected 0)'],
    ['a wrong length', 0x9_fc10 + 5, 'MP configuration table: the entry at offset '],
    ['a wrong signature', 0x9_fc10, 'MP configuration table: the signature PCMP is missing'],
    ['an entry too few', 0x9_fc10 + 34, '(expected 20, the entries found)'],
    ['an entry of no known type', 0x9_fc10 + 44, 'MP configuration table: '],
  ])('finds %s: exit code 1 and the problem in words', async (_, address, problem) => {
    using folder = new TemporaryFolder();
    const dump = await memoryDump(2);
    dump[address]! += 1;
    const memory = await folder.write('memory', dump);

    const { stdout, stderr, exitCode } = await runVolt(['inspect', '--json', '--from', memory]);

    const lines = stderr.trimEnd().split('\n');
    expect(stderr).toContain(problem);
    expect(lines.map((line) => line.replace(/^volt: /, ''))).toEqual(JSON.parse(stdout).problems);
    expect(exitCode).toBe(1);
  });

  test('finds a table that lies outside the dump', async () => {
    using folder = new TemporaryFolder();
    const memory = await folder.write('memory', (await memoryDump(60)).slice(0, 0xa_0000));

    const { stderr, exitCode } = await runVolt(['inspect', '--from', memory]);

    expect(stderr).toBe('volt: MP configuration table: its address is outside the file\n');
    expect(exitCode).toBe(1);
  });

  test('says what is wrong with a floating pointer whose checksum does not add up', async () => {
    using folder = new TemporaryFolder();
    await dump(folder, ['--cpus', '2']);
    const bytes = await Bun.file(folder.at('mp-floating-pointer@0x9fc00.bin')).bytes();
    bytes[10]! += 1;
    const pointer = await folder.write('pointer', bytes);

    const { stderr, exitCode } = await runVolt(['inspect', '--from', pointer]);

    expect(stderr).toContain('MP floating pointer: the bytes sum to 1 (expected 0)\n');
    expect(exitCode).toBe(1);
  });
});

/** The first MiB of a guest with `cpus` CPUs, put together from what volt dumps. */
async function memoryDump(cpus: number): Promise<Uint8Array> {
  using folder = new TemporaryFolder();
  const files = await dump(folder, ['--cpus', String(cpus)]);
  const memory = new Uint8Array(0x10_0000);
  for (const file of files) {
    const address = Number(/@(0x[0-9a-f]+)\.bin$/.exec(file)![1]);
    memory.set(await Bun.file(folder.at(file)).bytes(), address);
  }
  return memory;
}
