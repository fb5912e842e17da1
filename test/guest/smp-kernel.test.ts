/** The embedded kernel on real vCPUs: all CPUs come up, the tables agree, and deliberate faults are reported. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { resolve } from 'node:path';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';

setDefaultTimeout(300_000);

const HANG_MS = 240_000;
const SMP_ELF = resolve(import.meta.dir, '../../kernels/smp/smp.elf');

describe.skipIf(!kvmOpens)('the embedded kernel (needs /dev/kvm)', () => {
  test('without any flags brings up 2 CPUs, shows a report and passes', async () => {
    const { stdout, stderr, exitCode } = await runVolt([]);

    expect(stdout).toContain('x2APIC enabled on BSP\nFound 2 CPUs\nBoot trampoline copied to 0x8000\n');
    expect(stdout).toContain('CPU 1 online! APIC ID: 1\nAll CPUs started!\n');
    expect(stdout).toContain('Tables: MADT yes, 2 CPUs; MP yes, 2 CPUs; relation same\n');
    expect(stdout).toContain('Agreement: yes (0 complaints)\n');
    expect(stdout).toMatch(/IPI ping: min .* \(2 ordered pairs x 16\)\n/);
    expect(stdout).toEndWith('\nPASS\n');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test.each([
    [1, ''],
    [2, ''],
    [3, ''],
    [4, ''],
    [8, ''],
    [64, 'quick'],
    [254, 'quick'],
  ])('finds %d CPUs in MADT and MP tables, starts them, and everything agrees', async (cpus, words) => {
    const { stdout, stderr, exitCode } = await runVolt(
      ['--json', '--cpus', String(cpus), '--cmdline', words],
      { hangMs: HANG_MS },
    );

    const report = JSON.parse(stdout);
    const ids = Array.from({ length: cpus }, (_, i) => i);
    expect(report).toMatchObject({
      verdict: 'pass',
      failures: [],
      agree: true,
      complaints: [],
      cpus: { found: cpus, online: cpus, source: 'madt', apicIds: ids },
      tables: {
        madt: { present: true, cpus, ignored: 0 },
        mp: { present: true, cpus, ignored: 0 },
        relation: 'same',
      },
      cpuid: { agrees: true, packageThreads: cpus, threadsPerCore: 1, initialApicIds: ids, x2apicIds: ids },
    });
    expect(report.job.countedByAll).toBe(report.job.expected);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('finds 4 CPUs in the MP tables alone', async () => {
    const { stdout, exitCode } = await runVolt(['--json', '--cpus', '4', '--no-acpi'], { hangMs: HANG_MS });

    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ verdict: 'pass', cpus: { found: 4, online: 4, source: 'mp' } });
    expect(report.tables).toMatchObject({ madt: { present: false }, relation: 'one' });
    expect(exitCode).toBe(0);
  });

  test.each([255, 256, 300])('%d CPUs are listed by the MADT alone, and start by x2APIC', async (cpus) => {
    const { stdout, stderr, exitCode } = await runVolt(
      ['--json', '--cpus', String(cpus), '--memory', '256M', '--cmdline', 'quick'],
      { hangMs: HANG_MS },
    );

    const ids = Array.from({ length: cpus }, (_, i) => i);
    expect(JSON.parse(stdout)).toMatchObject({
      verdict: 'pass',
      complaints: [],
      cpus: { found: cpus, online: cpus, source: 'madt', apicIds: ids },
      tables: { madt: { cpus, ignored: 0 }, mp: { present: false } },
      cpuid: { agrees: true, packageThreads: cpus, x2apicIds: ids },
    });
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test.each([
    ['2,sockets=2', [0, 1]],
    ['6,sockets=2,cores=3', [0, 1, 2, 4, 5, 6]],
    ['6,sockets=1,dies=2,cores=3', [0, 1, 2, 4, 5, 6]],
    ['8,sockets=2,dies=1,cores=2,threads=2,max=16', [0, 1, 2, 3, 4, 5, 6, 7]],
    ['9,cores=3,threads=3', [0, 1, 2, 4, 5, 6, 8, 9, 10]],
    ['12,sockets=2,dies=3,cores=1,threads=2', [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]],
  ])('--cpus %s: CPUID on every CPU agrees with the tables', async (cpus, apicIds) => {
    const { stdout, exitCode } = await runVolt(['--json', '--cpus', cpus, '--cmdline', 'quick'], {
      hangMs: HANG_MS,
    });

    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ verdict: 'pass', complaints: [], cpuid: { agrees: true } });
    expect(report.cpus.apicIds).toEqual(apicIds);
    expect(exitCode).toBe(0);
  });

  test.each([
    ['1,max=2', 1, 2],
    ['2,max=4', 2, 4],
    ['3,threads=2', 3, 4],
    ['65,threads=2', 65, 66],
    ['5,sockets=2', 5, 3],
    ['4,max=7,sockets=2', 4, 2],
    ['7,dies=2,threads=2', 7, 8],
    ['5,max=12,dies=2,cores=3', 5, 6],
    ['1,sockets=1,dies=2,cores=3,threads=2,max=12', 1, 12],
  ])('--cpus %s: packages that are partly filled agree', async (layout, cpus, packageThreads) => {
    const { stdout, exitCode } = await runVolt(['--json', '--cpus', layout, '--cmdline', 'quick'], {
      hangMs: HANG_MS,
    });

    expect(JSON.parse(stdout)).toMatchObject({
      verdict: 'pass',
      agree: true,
      complaints: [],
      cpus: { found: cpus, online: cpus },
      cpuid: { agrees: true, packageThreads },
    });
    expect(exitCode).toBe(0);
  });

  test.each([1, 3])(
    "Firecracker's smt with %d vCPUs: a core of which one thread is missing agrees",
    async (cpus) => {
      using folder = new TemporaryFolder();
      const sections = {
        'boot-source': { kernel_image_path: SMP_ELF, boot_args: 'json quick' },
        'machine-config': { vcpu_count: cpus, mem_size_mib: 128, smt: true },
      };
      const config = await folder.write('vm.json', JSON.stringify(sections));

      const { stdout, exitCode } = await runVolt(['--config', config]);

      expect(JSON.parse(stdout)).toMatchObject({
        verdict: 'pass',
        complaints: [],
        cpuid: { agrees: true, packageThreads: cpus + 1, threadsPerCore: 2 },
      });
      expect(exitCode).toBe(0);
    },
  );

  test('takes its command line and its RAM from the machine', async () => {
    const { stdout } = await runVolt([
      '--json',
      '--cpus',
      '1',
      '--memory',
      '64M',
      '--cmdline',
      'quick other=word',
    ]);

    const { boot } = JSON.parse(stdout);
    expect(boot.cmdline).toBe('quick other=word json');
    expect(boot.protocol).toBe('pvh');
    expect(boot.ramBytes).toBeGreaterThan(63 * 2 ** 20);
    expect(boot.ramBytes).toBeLessThan(64 * 2 ** 20);
  });
});

describe.skipIf(!kvmOpens)('--timeline (needs /dev/kvm)', () => {
  test('prints on stderr when each phase happened, in order, up to the start of each AP', async () => {
    const { stdout, stderr, exitCode } = await runVolt([
      '--timeline',
      '--json',
      '--cpus',
      '3',
      '--cmdline',
      'quick',
    ]);

    const rows = [...stderr.matchAll(/^ *([\d.]+) ms {2}(.+)$/gm)];
    const times = rows.map((row) => Number(row[1]));
    const phases = rows.map((row) => row[2]!);
    expect(stderr.trimEnd().split('\n')).toHaveLength(rows.length);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(phases[0]).toBe('process start');
    expect(phases).toEqual(
      expect.arrayContaining([
        'kernel recognised',
        'VM made',
        'kernel loaded',
        'vCPUs made',
        'vCPU 2 started',
      ]),
    );
    expect(phases.indexOf('first console byte')).toBeGreaterThan(phases.indexOf('first guest instruction'));
    expect(JSON.parse(stdout).verdict).toBe('pass');
    expect(exitCode).toBe(0);
  });
});

describe.skipIf(!kvmOpens)('deliberate faults (need /dev/kvm)', () => {
  test('a silent AP: the kernel names it, exit code 65, and Volt says where each vCPU is', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['--cpus', '3', '--cmdline', 'fault=silent-ap']);

    const lines = stderr.trimEnd().split('\n');
    expect(stdout).toContain('CPU 1 online! APIC ID: 1\n');
    expect(stdout).toContain('FAIL: CPU 2 (APIC ID 2) did not come up: it started, but never checked in');
    expect(lines[0]).toBe('volt: guest reported failure: status 1 from vCPU 0');
    expect(lines[1]).toMatch(/^volt: {3}vCPU 0: running, RIP 0x10[0-9a-f]{4}$/);
    expect(lines[2]).toMatch(/^volt: {3}vCPU 1: halted, RIP 0x10[0-9a-f]{4}$/);
    expect(lines[3]).toMatch(/^volt: {3}vCPU 2: halted, RIP 0x10[0-9a-f]{4}$/);
    expect(lines).toHaveLength(4);
    expect(exitCode).toBe(65);
  });

  test('a triple fault on the last CPU: exit code 3, which CPU, RIP and registers', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['--cpus', '3', '--cmdline', 'fault=triple']);

    expect(stdout).toEndWith('All CPUs started!\ntriple fault on CPU 2, on purpose\n');
    expect(stderr).toMatch(
      /^volt: guest crashed: triple fault on vCPU 2 at RIP 0x10[0-9a-f]{4} \(an exception that its own handlers could not take\)\n/,
    );
    expect(stderr).toMatch(/\nvolt: {3}rip {4}0{10}10[0-9a-f]{4} {2}rflags [0-9a-f]{16} {2}rsp /);
    expect(stderr).toMatch(/ {2}idt [0-9a-f]{16}\+0\n/);
    expect(stderr).toMatch(/\nvolt: {3}vCPU 0: (halted|running), RIP 0x10[0-9a-f]{4}\n/);
    expect(stderr).toMatch(/\nvolt: {3}vCPU 2: running, RIP 0x10[0-9a-f]{4}\n$/);
    expect(exitCode).toBe(3);
  });

  test('an exception on the last CPU: the kernel panics and prints the registers, exit code 66', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['--cpus', '3', '--cmdline', 'fault=exception']);

    expect(stdout).toContain('page fault on CPU 2, on purpose\n');
    expect(stdout).toContain('PANIC on CPU 2 (APIC ID 2): #PF page fault, error code 0x2, in ring 0\n');
    expect(stdout).toMatch(/\nRIP 0{10}10[0-9a-f]{4} RSP /);
    expect(stdout).toContain('CR2 00007000dead0000');
    expect(stdout).toContain('2 of 2 other CPUs halted\n');
    expect(stderr).toStartWith('volt: guest reported failure: status 2 from vCPU 2\n');
    expect(exitCode).toBe(66);
  });

  test('an exception with --json: the report has the panic', async () => {
    const { stdout, exitCode } = await runVolt(['--json', '--cpus', '2', '--cmdline', 'fault=exception']);

    const report = JSON.parse(stdout.trim().split('\n').at(-1)!);
    expect(report).toMatchObject({
      verdict: 'fail',
      panic: { cpu: 1, apicId: 1, others: 1, othersHalted: 1, vector: 14, ring: 0, cr2: '0x7000dead0000' },
    });
    expect(exitCode).toBe(66);
  });

  test('a loop: a heartbeat each second until SIGINT, then exit code 130 and where each vCPU was', async () => {
    await using child = Bun.spawn([VOLT, '--cpus', '2', '--cmdline', 'loop', '--log-level', 'info'], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
      timeout: 120_000,
      killSignal: 'SIGKILL',
    });

    const shown = await readUntil(child.stdout, /heartbeat 2: \d+ CPUs busy\n/);
    child.kill('SIGINT');
    const [stderr, exitCode] = [await new Response(child.stderr).text(), await child.exited];

    expect(shown).toMatch(/All CPUs started!\nheartbeat 1: \d+ CPUs busy\nheartbeat 2: \d+ CPUs busy\n$/);
    expect(stderr).toMatch(/volt: guest ended: stopped on vCPU \d\n/);
    expect(stderr).toMatch(
      /\nvolt: {3}vCPU 0: running, RIP 0x[0-9a-f]+\nvolt: {3}vCPU 1: running, RIP 0x[0-9a-f]+\n$/,
    );
    expect(exitCode).toBe(130);
  });
});

/** Reads `stream` until its text matches `wanted`, or to its end. Returns all that was read. */
async function readUntil(stream: ReadableStream<Uint8Array>, wanted: RegExp): Promise<string> {
  let text = '';
  for await (const piece of stream) {
    text += new TextDecoder().decode(piece);
    if (wanted.test(text)) break;
  }
  return text;
}

/** A host CPU that guests share with processes that never sleep, each of which gets seventy times as much of it. */
class StarvedCpu implements AsyncDisposable {
  static readonly PREFIX = ['taskset', '-c', '0', 'nice', '-n', '19'];
  readonly #spinners: readonly Bun.Subprocess[];

  constructor(spinners: number) {
    const spin = ['taskset', '-c', '0', 'sh', '-c', 'while :; do :; done'];
    this.#spinners = Array.from({ length: spinners }, () => Bun.spawn(spin, { timeout: 120_000 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const spinner of this.#spinners) spinner.kill('SIGKILL');
    await Promise.all(this.#spinners.map((spinner) => spinner.exited));
  }
}

describe.skipIf(!kvmOpens)('on a host that is busy (needs /dev/kvm)', () => {
  test('an AP comes up, though it takes many seconds', async () => {
    await using child = Bun.spawn([...StarvedCpu.PREFIX, VOLT, '--cpus', '2', '--cmdline', 'quick'], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'ignore',
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    });
    // It goes first: a child that is killed needs a host CPU to end on.
    await using _ = new StarvedCpu(3);

    const shown = await readUntil(child.stdout, /All CPUs started!\n|FAIL.*\n/);
    child.kill('SIGKILL');

    expect(shown).toContain('CPU 1 online! APIC ID: 1\nAll CPUs started!\n');
  });

  test('selftest says so, and gives a guest more time than its --timeout', async () => {
    await using _ = new StarvedCpu(1);

    const { stdout, exitCode } = await runVolt(['selftest', '--cpus', '1', '--quick', '--timeout', '5'], {
      prefix: StarvedCpu.PREFIX,
      hangMs: HANG_MS,
    });

    expect(stdout).toMatch(
      / pass .* busy host: vCPU 0 waited \d+% of the time for a host CPU\nAll passed\.\n$/,
    );
    expect(exitCode).toBe(0);
  });
});

describe.skipIf(!kvmOpens)('volt selftest (needs /dev/kvm)', () => {
  test('shows a table for 1, 2 and 4 CPUs and passes', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['selftest', '--cpus', '4', '--quick']);

    const lines = stdout.trimEnd().split('\n');
    const row = (cpus: number) =>
      new RegExp(
        `^ {5}${cpus} {5}pass {7}${cpus} {3}agree +[\\d.]+ us +[\\d.]+x +\\d+ ms(  busy host: .+)?$`,
      );
    expect(lines[0]).toBe('  CPUs  verdict  online  tables    ping mean  speed-up       time');
    expect(lines[1]).toMatch(row(1));
    expect(lines[2]).toMatch(row(2));
    expect(lines[3]).toMatch(row(4));
    expect(lines.slice(4)).toEqual(['All passed.']);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('prints the same as JSON, and runs the requested count last', async () => {
    const { stdout, exitCode } = await runVolt(['selftest', '--cpus', '3', '--quick', '--json']);

    const { passed, runs } = JSON.parse(stdout);
    expect(passed).toBe(true);
    expect(runs.map((run: { cpus: number }) => run.cpus)).toEqual([1, 2, 3]);
    expect(runs[2]).toMatchObject({ passed: true, online: 3, tablesAgree: true });
    expect(exitCode).toBe(0);
  });
});
