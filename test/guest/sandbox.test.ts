/** The sandbox on real threads: every one of them is in it, a forbidden call is named, and long runs survive it. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { missingForSandbox } from '../../src/vmm/sandbox.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const missing = missingForSandbox();
const needsSandbox = testNeeding('seccomp and Landlock', missing.length > 0);
const needsKvm = testNeeding('/dev/kvm, seccomp and Landlock', missing.length > 0 || !kvmOpens);

async function sandboxed(...args: readonly string[]) {
  await using child = Bun.spawn([process.execPath, resolve(import.meta.dir, 'sandboxed.ts'), ...args], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 90_000,
    killSignal: 'SIGKILL',
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited };
}

const forbidden = (call: string) => ({
  stdout: '',
  stderr: `volt: Cannot continue: the sandbox forbids the system call ${call}; please report it (--no-sandbox runs without the sandbox)\r\n`,
  exitCode: 1,
});

/** Fields of /proc/PID/task/TID/status by thread name. */
function threadsOf(
  pid: number,
): { name: string; privileges: string; filters: number; capabilities: string }[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
    return {
      name: field('Name'),
      privileges: field('NoNewPrivs'),
      filters: Number(field('Seccomp_filters')),
      capabilities: ['CapInh', 'CapPrm', 'CapEff'].map(field).join(' '),
    };
  });
}

/** `volt` with the embedded kernel beating for ever; ended by its process id. */
async function withBeatingVolt(
  flags: readonly string[],
  look: (pid: number, folder: TemporaryFolder) => Promise<void>,
  prefix: readonly string[] = [],
): Promise<void> {
  using folder = new TemporaryFolder();
  const log = folder.at('log');
  const argv = [
    ...prefix,
    VOLT,
    '--cpus',
    '2',
    '--memory',
    '64M',
    '--cmdline',
    'loop',
    '--console',
    `file=${log}`,
  ];
  await using child = Bun.spawn([...argv, ...flags], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'inherit',
  });
  await waitUntil('the first heartbeat', () => logOf(log).includes('heartbeat'));
  await look(child.pid, folder);
  child.kill('SIGTERM');
  await child.exited;
}

function logOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

const NO_CAPABILITIES = Array(3).fill('0000000000000000').join(' ');

describe('a running guest', () => {
  needsKvm('has no thread outside the sandbox, and vCPUs further inside', async () => {
    await withBeatingVolt([], async (pid) => {
      const threads = threadsOf(pid);

      expect(threads.length).toBeGreaterThan(5);
      for (const thread of threads) {
        expect(thread).toMatchObject({ privileges: '1', capabilities: NO_CAPABILITIES });
        expect(thread.filters).toBeGreaterThanOrEqual(1);
      }
      const vcpus = threads.filter(({ name }) => name.startsWith('vcpu'));
      expect(vcpus.map(({ filters }) => filters)).toEqual([2, 2]);
    });
  });

  needsKvm(
    'enters it without a capability and where capset is forbidden, as a unit of systemd is',
    async () => {
      const asUnit = [process.execPath, resolve(import.meta.dir, 'without-capset.ts')];
      await withBeatingVolt(
        [],
        async (pid) => {
          for (const thread of threadsOf(pid)) {
            expect(thread).toMatchObject({ privileges: '1', capabilities: NO_CAPABILITIES });
            expect(thread.filters).toBeGreaterThanOrEqual(2);
          }
        },
        asUnit,
      );
    },
  );

  needsKvm('leaves no core dump, which would hold the memory of the guest', async () => {
    await withBeatingVolt([], async (pid) => {
      expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/^Max core file size +0 +0 /m);
    });
  });

  needsKvm('has descriptors for all connections of vsock, and for others besides', async () => {
    using sockets = new TemporaryFolder();
    await withBeatingVolt(['--vsock', `path=${sockets.at('v.sock')}`], async (pid) => {
      const limit = /^Max open files +(\d+) /m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
      expect(Number(limit)).toBe(2 * 3 + 512 + 1023);
    });
  });

  needsKvm('stays in it when the guest resets itself, several times', async () => {
    using folder = new TemporaryFolder();
    const log = folder.at('log');
    const waitForKey = asm.untilZero([...asm.in8(0x3f8 + 5), 0x24, 0x01, 0x34, 0x01]); // and al, 1; xor al, 1
    const resets = program(asm.print('up\n'), waitForKey, asm.out8(0x64, 0xfe), asm.halt());
    const kernel = await folder.write('kernel', buildPvhElf(resets));
    const flags = ['--cpus', '1', '--memory', '32M', '--kernel', kernel];
    await using child = Bun.spawn([VOLT, ...flags], { stdin: 'pipe', stdout: Bun.file(log), stderr: 'pipe' });
    for (let start = 1; start <= 4; start++) {
      await waitUntil(`start ${start}`, () => logOf(log).split('\n').length > start);
      if (start < 4) await child.stdin.write('x');
    }

    const threads = threadsOf(child.pid);
    child.kill('SIGTERM');
    const stderr = await new Response(child.stderr).text();

    expect(
      threads.filter(({ filters, capabilities }) => filters === 0 || capabilities !== NO_CAPABILITIES),
    ).toEqual([]);
    expect(stderr).toBe('');
    expect(await child.exited).toBe(143);
  });

  needsKvm('has all privileges of its user with --no-sandbox', async () => {
    await withBeatingVolt(['--no-sandbox'], async (pid) => {
      for (const { privileges, filters } of threadsOf(pid)) expect([privileges, filters]).toEqual(['0', 0]);
    });
  });

  needsKvm('serves clients of its control socket, and takes the socket away at the end', async () => {
    using sockets = new TemporaryFolder();
    const socket = sockets.at('control.sock');
    await withBeatingVolt(['--control', socket], async () => {
      const ctl = (...words: string[]) => runVolt(['ctl', socket, ...words]);
      const codes: number[] = [];
      for (const words of [
        ['status'],
        ['vcpus'],
        ['pause'],
        ['regs', '1'],
        ['resume'],
        ['affinity', '1', '0'],
        ['nice', '1', '5'],
        ['nice', '1', '1'],
        ['nmi', '9'],
      ]) {
        codes.push((await ctl(...words)).exitCode);
      }
      const clients = await Promise.all(Array.from({ length: 20 }, () => ctl('vcpus', '--json')));

      expect(codes).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 2]);
      expect(clients.map(({ exitCode }) => exitCode)).toEqual(Array(20).fill(0));
    });
    expect(readdirSync(sockets.path)).toEqual([]);
  });

  needsKvm('runs under load: forced collections, new machine code, new threads, pauses', async () => {
    const { stdout, stderr, exitCode } = await sandboxed('load', '8');

    expect(stderr).toBe('');
    expect(stdout).toBe('many rounds, some heartbeats\nstill here\n');
    expect(exitCode).toBe(0);
  });
});

describe('a forbidden system call ends the process and is named', () => {
  needsSandbox.each([
    ['socket', 'socket', ''],
    ['a program', 'spawn', ''],
    ['a file to write', 'create', '/tmp/volt-forbidden'],
    ['ptrace', 'ptrace', ''],
    ['a number that is no call', 'unknown', ''],
    ['host CPUs of another process', 'pin', 'process'],
    ["on a vCPU's thread: host CPUs of another process", 'pin', 'vcpu'],
    ["on a device's thread: host CPUs of another process", 'pin', 'device'],
    ["on a device's thread: nice values", 'renice', 'device'],
    ["on a device's thread: a second filter", 'device', ''],
    ['on a worker made later: socket', 'worker', ''],
    ['a signal to another process', 'tgkill', 'process'],
    ["on a vCPU's thread: a signal to another process", 'tgkill', 'vcpu'],
    ["on a device's thread: a signal to another process", 'tgkill', 'device'],
    ['limits of another process', 'prlimit', 'process'],
    ["on a vCPU's thread: limits of another process", 'prlimit', 'vcpu'],
    ["on a device's thread: limits of another process", 'prlimit', 'device'],
  ])('%s', async (_what, action, parameter) => {
    const named: Record<string, string> = {
      spawn: 'socketpair',
      create: 'openat',
      unknown: 'of an unknown number',
      pin: 'sched_setaffinity',
      renice: 'setpriority',
      device: 'seccomp',
      worker: 'socket',
      prlimit: 'prlimit64',
    };

    expect(await sandboxed(action, parameter)).toEqual(forbidden(named[action] ?? action));
  });
});

describe('files', () => {
  needsSandbox('of the host cannot be read, those of the process itself can', async () => {
    const passwd = await sandboxed('read', '/etc/passwd');
    const memory = await sandboxed('read', '/proc/self/statm');
    const cpus = await sandboxed('read', '/sys/devices/system/cpu/online');
    const others = await sandboxed('read', '/proc/1/environ');

    expect(passwd.stdout).toBe('EACCES\nstill here\n');
    expect(memory.stdout).toBe('read\nstill here\n');
    expect(cpus.stdout).toBe('read\nstill here\n');
    expect(others.stdout).toBe('EACCES\nstill here\n');
  });
});
