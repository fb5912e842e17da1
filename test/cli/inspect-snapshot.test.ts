/** `volt inspect DIR` and `volt inspect --from DIR`, by the executable. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { KvmSystem } from '../../src/kvm/system.ts';
import type { CpuidEntry } from '../../src/machine/cpuid-entry.ts';
import { encodeState, type MachineState } from '../../src/vmm/state/machine-state.ts';
import { AMD, INTEL } from '../unit/cpuid/hosts.ts';
import { describedGuest } from '../unit/vmm/state/described-guest.ts';
import { kvmOpens, runVolt, TemporaryFolder } from './volt-process.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

/** Writes the state, and layers of holes. */
async function writeSnapshot(folder: TemporaryFolder, state: MachineState = describedGuest(AMD)) {
  await folder.write('state', encodeState(state));
  for (const { file, bytes } of state.memory.layers) {
    const fd = openSync(folder.at(file), 'w');
    ftruncateSync(fd, bytes);
    closeSync(fd);
  }
  return folder.path;
}

describe('volt inspect DIR', () => {
  test('prints the state of a guest in lines of at most 100 columns', async () => {
    using folder = new TemporaryFolder();

    const { stdout, stderr, exitCode } = await runVolt(['inspect', await writeSnapshot(folder)]);

    const lines = stdout.split('\n');
    expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
    expect(lines.filter((line) => line.length > 100)).toEqual([]);
    for (const line of [
      'Snapshot  00112233445566778899aabbccddeeff',
      'Taken     2023-11-14 22:13:20 UTC by Volt 1.0.0',
      'CPU       AuthenticAMD, family 26, model 2, stepping 1',
      'Memory    64 MiB in 2 layers',
      '  memory-00  all of RAM, 0 B on disk',
      '  memory-01  12 KiB in 2 runs, 0 B on disk',
      'VM ID     VM generation ID at 0xeff00',
      'Clock     kvmclock 12.345678901 s, stable, host time 2023-11-14T22:13:20.000Z',
      '  machine-config      {"vcpu_count":1,"mem_size_mib":64}',
      'vCPU 0    APIC id 0, BSP, halted, 64-bit long mode, 4-level paging',
      '  rip    0xffffffff810000f0  rflags 0x30246: PF ZF IF RF VM IOPL=0',
      '  rax  0000000000001122  rbx  0000000000000000  rcx  0000000000000000  rdx  0000000000000000',
      '  cr0    0x80050033: PE MP ET NE WP AM PG',
      '  cs     0x10   base 0x10000             limit 0xffffffff  code DPL 0',
      '  LAPIC  x2APIC, id 3, enabled, TPR 0x20, PPR 0x0, spurious 0xff, ESR 0x0',
      '         in service: 0x31',
      '         requested: 0xec-0xed',
      '  events exception #PF pending, error code 0x2, NMI pending',
      '  FPU    4096 bytes, XCR0 0x207, in use: x87 SSE AVX',
      '  TSC    2300000 kHz',
      '  MSRs   4, of which 1 are 0',
      '    IA32_APIC_BASE              0xfee00d00          LSTAR                       0xffffffff81000000',
      'I/O APIC  id 4, requested: 5, masked: 0-1 3-4 6-23',
      '  pin  2  vector 0x30  fixed to physical 3, edge, active high',
      'PIT       channel 0: mode 2, count 65536, gate on',
      'ACPI      events: power button, VM generation',
      'Device    net0: net at 0xd0002000',
      '  status   ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK',
      '  features mac, status, version1',
      '  queue  0  256 entries at 0x100001000 0x2000 0x3000, next 17, wrap 1',
      '  limit    received operations: -3.5 of 100 per 1000 ms, burst 0',
      'Checks    checksum, bounds and files: no problems',
    ])
      expect(lines).toContain(line);
  });

  test('prints all of it as JSON', async () => {
    using folder = new TemporaryFolder();

    const { stdout, exitCode } = await runVolt(['inspect', '--json', await writeSnapshot(folder)]);

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      id: '00112233445566778899aabbccddeeff',
      onDisk: [0, 0],
      vcpus: [{ mode: '64-bit long mode', registers: { rip: '0xffffffff810000f0' } }],
      devices: [{ id: 'net0', queues: [{ next: 17 }] }],
      problems: [],
    });
  });

  test('finds layers that are missing or too short', async () => {
    using folder = new TemporaryFolder();
    const state = describedGuest(AMD);
    await folder.write('state', encodeState(state));
    await folder.write('memory-01', new Uint8Array(4096));

    const { stdout, stderr, exitCode } = await runVolt(['inspect', folder.path]);

    expect(stdout).toContain('  memory-00  all of RAM, missing\n');
    expect(stderr).toBe(
      "volt: memory-00: the directory lacks this layer of the guest's memory\n" +
        'volt: memory-01: it has 4096 bytes (expected 67108864, the size of RAM)\n',
    );
    expect(exitCode).toBe(1);
  });

  test('prints no control characters of a file', async () => {
    using folder = new TemporaryFolder();
    const state = describedGuest(AMD);
    const evil = '\u001b[2J\u009b31m';
    const devices = [{ ...state.devices[0]!, id: evil, failure: `${evil} x`, words: { [evil]: 1 } }];
    await writeSnapshot(folder, { ...state, volt: evil, config: { [evil]: evil }, devices });

    const { stdout } = await runVolt(['inspect', folder.path]);

    expect(stdout.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
  });

  test.each<[string, (folder: TemporaryFolder) => unknown, string]>([
    [
      'an empty directory',
      () => {},
      'it has no file state; name the directory that volt ctl PID snapshot wrote',
    ],
    ['a directory named state', (folder) => mkdirSync(folder.at('state')), 'is not a regular file'],
    [
      'another file',
      (folder) => folder.write('state', Buffer.from('hello\n')),
      'it is no state file of Volt',
    ],
    [
      'half a state',
      (folder) => folder.write('state', encodeState(describedGuest(AMD)).slice(0, 5000)),
      'its checksum is wrong',
    ],
    ['a FIFO', (folder) => Bun.spawnSync(['mkfifo', folder.at('state')]), 'is not a regular file'],
  ])('refuses %s in one line', async (_, prepare, problem) => {
    using folder = new TemporaryFolder();
    await prepare(folder);

    for (const argv of [
      ['inspect', folder.path],
      ['inspect', '--from', folder.path],
    ]) {
      const { stdout, stderr, exitCode } = await runVolt(argv);
      expect(stderr).toMatch(/^volt: Cannot read the snapshot [^\n]*\n$/);
      expect(stderr).toContain(problem);
      expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 2 });
    }
  });

  test.each([
    [['--cpus', '2'], 'Cannot use --cpus with a snapshot: it has no effect on a file; leave it out'],
    [['--from', 'x'], 'Cannot use --from with a snapshot to decode: use one of them'],
    [['--dump', 'x'], 'Cannot use --dump with a snapshot: it has no effect on a file; leave it out'],
  ])('with %p is refused', async (flags, message) => {
    const { stderr, exitCode } = await runVolt(['inspect', '/nowhere', ...flags]);
    expect({ stderr, exitCode }).toEqual({ stderr: `volt: ${message}\n`, exitCode: 2 });
  });
});

describe('volt inspect --from DIR', () => {
  const hostTable = (): readonly CpuidEntry[] => {
    using system = new KvmSystem();
    return system.supportedCpuid();
  };

  test.skipIf(!kvmOpens)('fits the host that it is from (needs /dev/kvm)', async () => {
    using folder = new TemporaryFolder();
    const state = describedGuest(hostTable());
    const vcpus = [{ ...state.vcpus[0]!, tscKhz: 0, msrs: new Uint8Array() }];
    await writeSnapshot(folder, { ...state, vcpus });

    const { stdout, stderr, exitCode } = await runVolt(['inspect', '--from', folder.path]);

    expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
    expect(stdout).toEndWith('Verdict   fine: this host can run it\n');
  });

  test.skipIf(!kvmOpens)('names what the host lacks, and ends with 1 (needs /dev/kvm)', async () => {
    using folder = new TemporaryFolder();
    const table = hostTable().map((entry) =>
      entry.function === 1 ? { ...entry, ecx: (entry.ecx | (1 << 16)) >>> 0 } : entry,
    );
    const state = describedGuest(table);
    const vcpus = [{ ...state.vcpus[0]!, tscKhz: 0, msrs: new Uint8Array() }];
    await writeSnapshot(folder, { ...state, vcpus });

    const text = await runVolt(['inspect', '--from', folder.path]);
    const json = await runVolt(['inspect', '--json', '--from', folder.path]);

    expect(text.stdout).toContain('  refusal  CPUID 0x1 ECX: this host lacks bit 16\n');
    expect(text.stdout).toEndWith('Verdict   refusal: this host cannot run it\n');
    expect(text.stderr).toMatch(/^volt: Cannot restore \S+ on this host: 1 difference of the CPU, .*\n$/);
    expect(JSON.parse(json.stdout)).toMatchObject({
      verdict: 'refusal',
      host: 'kvm',
      differences: [{ verdict: 'refusal', where: 'CPUID 0x1 ECX', missing: ['bit 16'] }],
    });
    expect([text.exitCode, json.exitCode]).toEqual([1, 1]);
  });

  test('works on the snapshot of another machine, whichever this one is', async () => {
    const verdicts = [AMD, INTEL].map(async (table) => {
      using folder = new TemporaryFolder();
      const { stdout } = await runVolt([
        'inspect',
        '--json',
        '--from',
        await writeSnapshot(folder, describedGuest(table)),
      ]);
      return (JSON.parse(stdout) as { verdict: string }).verdict;
    });

    // They have different vendors, and no host has both.
    expect(await Promise.all(verdicts)).toContain('refusal');
  });
});
