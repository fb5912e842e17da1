/** Devices and what comes later in a guest's life, with the sandbox closed: the compiled volt with its defaults. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { missingForSandbox } from '../../src/vmm/sandbox.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { runKernel, waitUntil } from './guest-run.ts';
import { pluggingGuest } from './plugging-guest.ts';
import {
  busyDiskGuest,
  countingGuest,
  discardingGuest,
  resettingRandomGuest,
  SECTOR,
} from './sandboxed-disk-guest.ts';
import { buildPvhElf } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const cannotRun = missingForSandbox().length > 0 || !kvmOpens;

const LIVES = 4;
/** For each life what it counted, and the statuses of its requests, which are 0. */
const LIVES_TOLD = Array.from({ length: LIVES }, (_, life) => [life + 1, 0, 0, 0]).flat();

/** The default of `runKernel` is --no-reboot. */
async function runRebooting(kernel: Uint8Array, flags: readonly string[]) {
  using folder = new TemporaryFolder();
  const path = await folder.write('kernel', buildPvhElf(kernel));
  return await runVolt(['--kernel', path, '--memory', '32M', '--cpus', '1', ...flags]);
}

/** A guest under way whose console goes to a file, with a control socket. */
class SandboxedVolt implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  readonly socket = this.folder.at('control.sock');
  readonly #log = this.folder.at('log');
  #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'> | undefined;

  async start(kernel: Uint8Array, flags: readonly string[]): Promise<this> {
    const path = await this.folder.write('kernel', buildPvhElf(kernel));
    const argv = [VOLT, '--kernel', path, '--memory', '32M', '--console', `file=${this.#log}`];
    this.#child = Bun.spawn([...argv, '--control', this.socket, ...flags], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    return this;
  }

  get pid(): number {
    return this.#child!.pid;
  }

  get output(): string {
    try {
      return readFileSync(this.#log, 'latin1');
    } catch {
      return '';
    }
  }

  async says(what: string, condition: () => boolean): Promise<void> {
    await waitUntil(what, () => condition() || this.#child!.exitCode !== null);
  }

  ctl(...words: readonly string[]) {
    return runVolt(['ctl', this.socket, ...words]);
  }

  async end(signal: NodeJS.Signals): Promise<{ stderr: string; exitCode: number }> {
    this.#child!.kill(signal);
    const stderr = await new Response(this.#child!.stderr).text();
    return { stderr, exitCode: await this.#child!.exited };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child!.kill('SIGKILL');
    await this.#child!.exited;
    this.folder[Symbol.dispose]();
  }
}

/** How many filters each thread has, by its name. */
function filtersOf(pid: number): { name: string; filters: number }[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
    return { name: field('Name'), filters: Number(field('Seccomp_filters')) };
  });
}

describe.skipIf(cannotRun)('in the sandbox (needs /dev/kvm, seccomp, Landlock) a disk', () => {
  test.each([
    ['as it is by default', ''],
    ['by preadv and pwritev', ',engine=sync'],
    ['by io_uring alone', ',engine=async'],
    ['written through', ',cache=writethrough'],
    ['past the page cache, by io_uring', ',direct,engine=async'],
    ['past the page cache, by preadv', ',direct,engine=sync'],
    ['with rate limits and queues', ',queues=4,iops=200,bw=1M'],
  ])('%s is read, written and flushed, and again after each reset of the guest', async (_what, words) => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(16 * SECTOR));

    const run = await runRebooting(countingGuest(LIVES), ['--disk', `path=${disk}${words}`]);

    expect(run.stderr).toBe('');
    expect([...run.bytes]).toEqual(LIVES_TOLD);
    expect(run.exitCode).toBe(0);
    expect(readFileSync(disk)[0]).toBe(LIVES);
  });

  test('with an overlay is written there, and the overlay is found again after each reset', async () => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(16 * SECTOR));
    const flags = ['--disk', `path=${disk},overlay=${folder.at('overlay')}`];

    const run = await runRebooting(countingGuest(LIVES), flags);

    expect(run.stderr).toBe('');
    expect([...run.bytes]).toEqual(LIVES_TOLD);
    expect(readFileSync(disk)[0]).toBe(0);
  });

  test.each([
    ['its file', ''],
    ['an overlay', ',overlay={dir}/overlay'],
  ])('gives up blocks of %s and has them zeroed', async (_where, words) => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(16 * SECTOR).fill(7));

    const run = await runKernel(buildPvhElf(discardingGuest()), [
      '--disk',
      `path=${disk}${words.replace('{dir}', folder.path)}`,
    ]);

    expect(run.stderr).toBe('');
    expect([...run.bytes]).toEqual([0, 0]);
    expect(run.exitCode).toBe(0);
  });

  test('serves under load on a thread with a filter of its own, while clients look at it', async () => {
    await using volt = new SandboxedVolt();
    const disk = await volt.folder.write('disk', new Uint8Array(16 * SECTOR));
    await volt.start(busyDiskGuest(), ['--cpus', '1', '--disk', disk, '--rng', '--metrics', '127.0.0.1:0']);
    await volt.says('the guest is busy', () => volt.output.includes('busy'));
    const chains = async () => {
      const { stdout } = await volt.ctl('devices', '--json');
      const devices = JSON.parse(stdout) as { queues: { chains: number }[] }[];
      return devices[0]!.queues[0]!.chains;
    };

    const first = await chains();
    const threads = filtersOf(volt.pid);
    const words = [
      ['status'],
      ['vcpus'],
      ['pause'],
      ['regs', '0'],
      ['resume'],
      ['where'],
      ['affinity', '0', '0'],
    ];
    const codes: number[] = [];
    for (const command of words) codes.push((await volt.ctl(...command)).exitCode);
    const top = await runVolt(['top', volt.socket, '--once', '--json']);
    const last = await chains();
    const { stderr, exitCode } = await volt.end('SIGTERM');

    expect(threads.filter(({ name }) => name.startsWith('virtio'))).toEqual([
      { name: 'virtio-disk0', filters: 2 },
      { name: 'virtio-rng', filters: 2 },
    ]);
    expect(codes).toEqual(words.map(() => 0));
    expect(top.exitCode).toBe(0);
    expect(last).toBeGreaterThan(first);
    expect([stderr.match(/forbids.*/)?.[0], exitCode]).toEqual([undefined, 143]);
  });
});

describe.skipIf(cannotRun)('in the sandbox (needs /dev/kvm, seccomp, Landlock)', () => {
  test('random numbers are there after each reset, until there were too many', async () => {
    const { stdout, stderr, exitCode } = await runRebooting(resettingRandomGuest(), ['--rng']);

    expect(stdout).toBe('up\n'.repeat(5));
    expect(stderr).toMatch(/^volt: the guest has reset itself 5 times .*\n$/);
    expect(exitCode).toBe(1);
  });

  test('vCPUs are made and plugged, ejected, and plugged again', async () => {
    await using volt = await new SandboxedVolt().start(pluggingGuest(), ['--cpus', '1,max=3']);
    await volt.says('the boot CPU', () => volt.output === 'b');

    const more = await volt.ctl('cpus', '3', '--json');
    await volt.says('both new CPUs', () => volt.output.length === 3);
    const plugged = filtersOf(volt.pid).filter(({ name }) => name.startsWith('vcpu'));
    const fewer = await volt.ctl('cpus', '1', '--json');
    const again = await volt.ctl('cpus', '2', '--json');
    await volt.says('the first of them again', () => volt.output.length === 4);
    const { stderr } = await volt.end('SIGTERM');

    expect(JSON.parse(more.stdout)).toEqual({ present: 3, added: [1, 2], removed: [], unanswered: [] });
    expect(plugged.map(({ filters }) => filters)).toEqual([2, 2, 2]);
    expect(JSON.parse(fewer.stdout)).toEqual({ present: 1, added: [], removed: [1, 2], unanswered: [] });
    expect(JSON.parse(again.stdout)).toEqual({ present: 2, added: [1], removed: [], unanswered: [] });
    expect(volt.output).toBe('baaa');
    expect(stderr).not.toContain('forbids');
  });
});
