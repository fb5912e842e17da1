/** The control socket of the real binary, with a guest on real vCPUs behind it. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { existsSync, statSync } from 'node:fs';
import type { VcpuStatus } from '../../src/api/index.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

/** `volt --control` with every CPU of the embedded kernel busy, once it beats. */
class BusyVolt implements AsyncDisposable {
  readonly socket: string;
  readonly #folder = new TemporaryFolder();
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  #output = '';

  constructor(cpus: number) {
    this.socket = this.#folder.at('control.sock');
    const flags = ['--cpus', String(cpus), '--memory', '64M', '--cmdline', 'loop', '--control', this.socket];
    this.#child = Bun.spawn([VOLT, ...flags], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
    void this.#read();
  }

  get pid(): number {
    return this.#child.pid;
  }

  get beats(): number[] {
    return [...this.#output.matchAll(/heartbeat (\d+):/g)].map((match) => Number(match[1]));
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  async beating(): Promise<this> {
    await waitUntil('the first heartbeat', () => this.beats.length > 0);
    return this;
  }

  /** `volt ctl` on this guest. */
  ctl(...words: readonly string[]) {
    return runVolt(['ctl', this.socket, ...words]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
    this.#folder[Symbol.dispose]();
  }

  async #read(): Promise<void> {
    for await (const bytes of this.#child.stdout) this.#output += Buffer.from(bytes).toString('latin1');
  }
}

describe('the control socket of a running guest', () => {
  needsKvm('is for its owner alone, and is gone when the guest has ended', async () => {
    await using volt = await new BusyVolt(1).beating();
    const mode = statSync(volt.socket).mode & 0o777;

    const { exitCode } = await volt.ctl('stop');
    await volt.exited;

    expect(mode).toBe(0o600);
    expect(exitCode).toBe(0);
    expect(existsSync(volt.socket)).toBe(false);
  });

  needsKvm('tells status and vCPUs, and volt ps lists it', async () => {
    await using volt = await new BusyVolt(2).beating();

    const status = JSON.parse((await volt.ctl('status', '--json')).stdout) as Record<string, unknown>;
    const vcpus = JSON.parse((await volt.ctl('vcpus', '--json')).stdout) as { state: string; bsp: boolean }[];
    const listed = JSON.parse((await runVolt(['ps', '--json'])).stdout) as { pid: number; socket: string }[];

    expect(status).toMatchObject({ state: 'running', vcpus: 2, kernel: 'embedded' });
    expect(vcpus.map(({ state, bsp }) => [state, bsp])).toEqual([
      ['running', true],
      ['running', false],
    ]);
    expect(listed.find(({ pid }) => pid === volt.pid)?.socket).toBe(volt.socket);
  });

  needsKvm('tells where each vCPU is, by the names in the embedded kernel', async () => {
    await using volt = await new BusyVolt(2).beating();

    const where = await volt.ctl('where');
    const places = JSON.parse((await volt.ctl('where', '--json')).stdout) as {
      rip: string;
      symbol?: string;
    }[];

    // Ring 0 of this kernel has a name for every address; its hot loops in ring 3 are part of it, too.
    expect(where.stdout).toMatch(
      /^VCPU  STATE .*\n   0  \w+ +0x1[0-9a-f]{5}  \w+(\+0x[0-9a-f]+)?\n   1  \w+ +0x1[0-9a-f]{5}  \w+/,
    );
    expect(places.map(({ symbol }) => typeof symbol)).toEqual(['string', 'string']);
  });

  needsKvm('takes names from the file of --symbols instead', async () => {
    using folder = new TemporaryFolder();
    const map = await folder.write('map', '0000000000100000 T everything\n0000000000200000 B _end\n');
    await using volt = await new BusyVolt(1).beating();
    await volt.ctl('pause');

    const { stdout } = await volt.ctl('where', '--symbols', map);
    const missing = await volt.ctl('where', '--symbols', folder.at('none'));

    expect(stdout).toMatch(/ everything\+0x[0-9a-f]+\n$/);
    expect(missing.stderr).toBe(
      `volt: Cannot use --symbols ${folder.at('none')}: there is no such file (expected the path of a file)\n`,
    );
    expect(missing.exitCode).toBe(2);
  });

  needsKvm('tells host CPUs and times of the threads of vCPUs', async () => {
    await using volt = await new BusyVolt(2).beating();
    const look = async () => JSON.parse((await volt.ctl('vcpus', '--json')).stdout) as VcpuStatus[];

    const before = await look();
    const beats = volt.beats.length;
    await waitUntil('another heartbeat', () => volt.beats.length > beats);
    const after = await look();

    expect(after.every(({ affinity, hostCpu }) => affinity.includes(hostCpu!))).toBe(true);
    after.forEach(({ runtimeNs }, i) => expect(runtimeNs).toBeGreaterThan(before[i]!.runtimeNs!));
    after.forEach(({ waitNs }, i) => expect(waitNs).toBeGreaterThanOrEqual(before[i]!.waitNs!));
  });

  needsKvm('volt top shows how busy each vCPU is, and nothing of a paused one', async () => {
    await using volt = await new BusyVolt(2).beating();
    const look = async () => {
      const { stdout } = await runVolt(['top', volt.socket, '--once', '--json', '--interval', '0.3']);
      return (
        JSON.parse(stdout) as { vcpus: { state: string; cpuPercent: number; rip: string; hostCpu: number }[] }
      ).vcpus;
    };

    const busy = await look();
    await volt.ctl('pause', '1');
    const [running, paused] = await look();

    busy.forEach(({ cpuPercent }) => expect(cpuPercent).toBeGreaterThan(0));
    busy.forEach(({ rip }) => expect(rip).toMatch(/^0x1[0-9a-f]{5}$/));
    expect(running).toMatchObject({ state: 'running' });
    expect(paused).toMatchObject({ state: 'paused', exitsPerSecond: 0 });
    expect(paused!.cpuPercent).toBeLessThan(running!.cpuPercent);
  });

  needsKvm('pauses a guest, which then stands still, and resumes it', async () => {
    await using volt = await new BusyVolt(2).beating();
    await volt.ctl('pause');
    const before = (await volt.ctl('regs', '1')).stdout;

    const after = (await volt.ctl('regs', '1')).stdout;
    const paused = JSON.parse((await volt.ctl('vcpus', '--json')).stdout) as { state: string }[];
    const beats = volt.beats.length;
    await volt.ctl('resume');
    await waitUntil('another heartbeat', () => volt.beats.length > beats);

    expect(after).toBe(before);
    expect(paused.map(({ state }) => state)).toEqual(['paused', 'paused']);
    expect(volt.beats).toEqual(volt.beats.map((_, i) => i + 1));
  });

  needsKvm('refuses what makes no sense in one line', async () => {
    await using volt = await new BusyVolt(1).beating();

    const vector = await volt.ctl('ipi', '--mode', 'fixed', '--vector', '3', '--to', '0');
    const missing = await volt.ctl('regs', '5');

    expect(vector.stderr).toBe('volt: Cannot send fixed: vector is 3 (expected 16 to 255)\n');
    expect(missing.stderr).toMatch(/^volt: [^\n]*vCPU 5[^\n]*\n$/);
    expect([vector.exitCode, missing.exitCode]).not.toContain(0);
  });
});
