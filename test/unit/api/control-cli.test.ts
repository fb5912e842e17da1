/** `volt ctl` and `volt ps`, run from source, against a VM that only remembers. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { serveControl, type ControlServer } from '../../../src/api/control/server.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { FAKE_STATUS, FakeTarget, fakeVcpu, SocketFolder, until } from './control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const MAIN = resolve(import.meta.dir, '../../../src/cli/main.ts');

let folder: SocketFolder;
let target: FakeTarget;
let server: ControlServer;

/** Named like the socket of this process, which lives, in a directory where `volt ps` looks. */
beforeEach(() => {
  folder = new SocketFolder();
  mkdirSync(folder.at('volt'), { mode: 0o700 });
  target = new FakeTarget();
  server = serveControl(target, folder.at(`volt/${process.pid}.sock`));
});

afterEach(async () => {
  await server.close();
  folder[Symbol.dispose]();
});

function spawnVolt(args: readonly string[]) {
  return Bun.spawn([process.execPath, MAIN, ...args], {
    env: { ...process.env, XDG_RUNTIME_DIR: folder.path, NO_COLOR: '1' },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
}

async function volt(...args: string[]) {
  await using child = spawnVolt(args);
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited };
}

test('volt ctl cpus says how many there are and which came', async () => {
  const run = await volt('ctl', server.path, 'cpus', '3');
  expect(run).toEqual({ stdout: '3 vCPUs: added 2\n', stderr: '', exitCode: 0 });
  expect(target.calls).toEqual(['setCpuCount 3']);
});

describe('volt ctl', () => {
  test.each([
    ['pause', ['pause', 'paused']],
    ['pause 1 0x0', ['pause [1,0]', 'paused']],
    ['resume', ['resume']],
    ['resume 1', ['resume [1]']],
    ['stop', ['stop']],
    ['nmi', ['sendIpi {"destination":"all","mode":"nmi"}']],
    ['nmi 1', ['sendIpi {"destination":1,"mode":"nmi"}']],
    ['start-ap 1 0x08', ['startAp 1 8']],
    ['affinity 1 0-1,3', ['setAffinity 1 [0,1,3]']],
    ['powerdown', ['powerDown']],
    ['nice 1 19', ['setNice 1 19']],
    ['nice 1 -5', ['setNice 1 -5']],
    ['mp-state 1 halted', ['setMpState 1 "halted"']],
    ['mp-state 1 sipi-received 0x08', ['setMpState 1 "sipi-received" 8']],
    ['ipi --mode init --to 1', ['sendIpi {"destination":1,"mode":"init"}']],
    [
      'ipi --mode fixed --vector 0x30 --to all --except 0',
      ['sendIpi {"destination":"all-but","except":0,"mode":"fixed","vector":48}'],
    ],
    [
      'ipi --mode lowest-priority --vector 48 --to all --trigger level --deassert',
      ['sendIpi {"destination":"all","mode":"lowest-priority","vector":48,"level":false,"trigger":"level"}'],
    ],
  ])('%s does that and says nothing', async (words, calls) => {
    const run = await volt('ctl', server.path, ...words.split(' '));
    expect(run).toEqual({ stdout: '', stderr: '', exitCode: 0 });
    expect(target.calls).toEqual(calls);
  });

  test('status, vcpus and regs are printed', async () => {
    expect((await volt('ctl', server.path, 'status')).stdout).toContain('kernel   /boot/vmlinux-ä\n');
    expect((await volt('ctl', server.path, 'vcpus')).stdout).toContain('waiting-for-sipi');
    expect((await volt('ctl', server.path, 'regs', '1')).stdout).toContain('rip       0x100000\n');
  });

  test('--json prints the answer, before the guest or before the command, and a process id names one', async () => {
    const first = await volt('ctl', '--json', server.path, 'status');
    expect(JSON.parse(first.stdout)).toEqual(FAKE_STATUS);
    const second = await volt('ctl', String(process.pid), '--json', 'vcpus');
    expect(JSON.parse(second.stdout)).toEqual(
      [0, 1].map((index) => JSON.parse(JSON.stringify(fakeVcpu(index))) as unknown),
    );
    const third = await volt('ctl', '--json', server.path, 'nmi');
    expect(JSON.parse(third.stdout)).toEqual({ ok: true });
  });

  test('events are lines of JSON until the guest ends', async () => {
    await using child = spawnVolt(['ctl', server.path, 'events']);
    await until(() => target.listeners.size === 1);
    target.tell({ kind: 'paused', vcpus: [0], atMs: 1 });
    target.tell({ kind: 'ended', reason: 'reset', exitCode: 0, atMs: 2 });
    await server.close();
    expect(await new Response(child.stdout).text()).toBe(
      '{"kind":"paused","vcpus":[0],"atMs":1}\n{"kind":"ended","reason":"reset","exitCode":0,"atMs":2}\n',
    );
    expect(await child.exited).toBe(0);
  });

  test('a refusal of the guest is one line on stderr', async () => {
    target.failure = new VoltError('usage', 'Cannot find vCPU 9 (expected 0 to 1)');
    expect(await volt('ctl', server.path, 'regs', '9')).toEqual({
      stdout: '',
      stderr: 'volt: Cannot find vCPU 9 (expected 0 to 1)\n',
      exitCode: 2,
    });
  });

  test.each([
    ['ctl', 'no guest is named'],
    ['ctl --wrong', 'unknown option --wrong'],
    ['ctl SOCKET reboot', "unknown command 'reboot'"],
    ['ctl SOCKET regs', "missing required argument 'vcpu'"],
    ['ctl SOCKET regs one', 'Expected a whole number such as 3 or 0x30'],
    ['ctl SOCKET regs 1 2', "too many arguments for 'regs'"],
    ['ctl SOCKET pause -1', 'Expected a whole number such as 3 or 0x30'],
    ['ctl SOCKET affinity 1 a', 'Expected host CPUs such as 2 or 0-1,3'],
    ['ctl SOCKET ipi --to 1', "required option '--mode <mode>' not specified"],
    ['ctl SOCKET ipi --mode nmi', "required option '--to <vcpu>' not specified"],
    ['ctl SOCKET ipi --mode smi --to 1', 'Allowed choices are fixed, lowest-priority'],
    ['ctl SOCKET ipi --mode nmi --to 1 --except 0', 'Cannot use --except 0: --to is 1 (expected --to all)'],
    ['ctl SOCKET nmi --wrong', "unknown option '--wrong'"],
  ])('%s is a usage error in one line', async (words, message) => {
    const run = await volt(...words.replace('SOCKET', server.path).split(' '));
    expect(run.exitCode).toBe(2);
    expect(run.stdout).toBe('');
    expect(run.stderr).toMatch(/^volt: [^\n]*\n$/);
    expect(run.stderr).toContain(message);
    expect(target.calls).toEqual([]);
  });

  test('a guest that is not there is a failure in one line', async () => {
    const byPath = await volt('ctl', folder.at('missing.sock'), 'status');
    expect(byPath.exitCode).toBe(1);
    expect(byPath.stderr).toContain(
      'there is no such socket (expected the control socket of a running guest',
    );
    const byPid = await volt('ctl', '4194305', 'status');
    expect(byPid.exitCode).toBe(1);
    expect(byPid.stderr).toContain('Cannot find a guest with process id 4194305');
  });

  test.each([['ctl --help'], ['help ctl']])('%s lists every command', async (words) => {
    const { stdout, exitCode } = await volt(...words.split(' '));
    expect(exitCode).toBe(0);
    expect(stdout).toContain('Usage: volt ctl [--json] <guest> <command> [args]');
    for (const word of ['status', 'vcpus', 'regs', 'pause', 'resume', 'stop', 'ipi', 'nmi', 'start-ap'])
      expect(stdout).toContain(`  ${word} `);
    expect(stdout).toContain('  affinity ');
    expect(stdout).toContain('  events ');
  });

  test('every command has help of its own, which asks no guest', async () => {
    const { stdout, exitCode } = await volt('ctl', 'nowhere', 'ipi', '--help');
    expect(exitCode).toBe(0);
    expect(stdout).toContain('--except <vcpu>');
    expect(stdout).toContain('volt ctl nowhere ipi --mode sipi --vector 0x08 --to 1');
  });
});

describe('volt ps', () => {
  test('lists this guest', async () => {
    const { stdout, exitCode } = await volt('ps');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^ *PID  NAME  VCPUS   MEMORY  UPTIME  STATE +KERNEL +SOCKET\n/);
    expect(stdout).toMatch(/\d+  - +2  512 MiB +1\.5s  running +\/boot\/vmlinux-ä +\/.*\.sock\n/);
    const { stdout: json } = await volt('ps', '--json');
    expect(JSON.parse(json)).toContainEqual({ ...FAKE_STATUS, pid: process.pid, socket: server.path });
  });

  test('forgets it when it has ended', async () => {
    await server.close();
    expect((await volt('ps')).stdout).not.toContain(server.path);
  });
});
