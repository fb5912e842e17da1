/** A booted Linux with 4 busy CPUs, seen and steered by volt ps, ctl and top, and paused again and again. One boot. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd } from '../../scripts/initrd.ts';
import type { RegisterSet, VcpuStatus } from '../../src/api/index.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, test, VOLT } from './linux-host.ts';

const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'guest-initrd');
/** Thousands are for a person who has the time. */
const ROUNDS = Number(process.env['VOLT_PAUSE_ROUNDS'] ?? 100);
/** Bound for a hang only. */
const SECONDS = 280 + ROUNDS / 10;
const CPUS = 4;
let kernel: DebianKernel;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await Bun.write(initrd, await buildGuestInitrd());
  kernel = await fetchDebianKernel('amd64');
});

afterAll(stopLinuxHost);

/** A line that starts with `name`, as JSON. */
function answer<T>(stdout: string, name: string): T {
  const line = stdout.split('\n').find((each) => each.startsWith(`${name} `));
  if (line === undefined) throw new Error(`Cannot find the answer of ${name} in:\n${stdout}`);
  return JSON.parse(line.slice(name.length)) as T;
}

/** NMIs of each CPU, as /proc/interrupts had them after each beat. */
function nmisIn(stdout: string): number[][] {
  const lines = stdout.matchAll(/^VOLT-GUEST NMI: +([\d ]+\d) /gm);
  return [...lines].map((match) => match[1]!.split(/ +/).map(Number));
}

test(
  'volt ps, ctl and top steer it, NMIs reach it, and hundreds of pauses leave its clock ticking and its console whole',
  async () => {
    const cmdline = 'console=ttyS0 reboot=k panic=-1 quiet volt.run=spin';
    const script = `
      volt=$1
      dir=$(mktemp -d); out=$dir/out; sock=$dir/sock
      "$volt" --cpus ${CPUS} --kernel "$2" --initrd "$3" --cmdline "$4" --control "$sock" < /dev/null > "$out" &
      pid=$!
      ctl() { "$volt" ctl "$sock" "$@"; }
      beats() { grep -c 'VOLT-GUEST NMI' "$out"; }
      two_beats() { seen=$(beats); until [ "$(beats)" -ge $((seen + 2)) ]; do sleep 0.1; done; }
      tell() { name=$1; shift; echo "$name $("$@" | tr -d '\\n')"; }
      until grep -q 'beat 2' "$out"; do sleep 0.1; done

      echo "pid $pid"
      tell ps "$volt" ps --json
      tell top "$volt" top --once --json
      tell where ctl where --json
      ctl affinity 0 0 || exit 1
      ctl pause 1 2 || exit 1
      tell partly ctl vcpus --json
      ctl resume || exit 1
      tell regs ctl regs 3 --json

      "$5" "$6" "$sock" "$7" || exit 1
      two_beats
      tell vcpus ctl vcpus --json

      echo "before-nmi $(beats)"
      ctl nmi || exit 1
      two_beats
      ctl nmi 1 || exit 1
      two_beats
      ctl stop || exit 1
      wait; cat "$out"; rm -r "$dir"`;
    const rounds = resolve(import.meta.dir, 'pause-rounds.ts');
    const argv = [VOLT, kernel.vmlinux, initrd, cmdline, process.execPath, rounds, String(ROUNDS)];

    const { stdout, stderr, exitCode } = await runOnLinuxHost(['sh', '-c', script, 'sh', ...argv], SECONDS);

    const pid = answer<number>(stdout, 'pid');
    const top = answer<{ pid: number; vcpus: { state: string; cpuPercent: number; rip: string }[] }>(
      stdout,
      'top',
    );
    const states = (name: string) => answer<VcpuStatus[]>(stdout, name).map(({ state }) => state);
    expect(answer<object[]>(stdout, 'ps')).toMatchObject([{ pid, state: 'running', vcpus: CPUS }]);
    expect(top).toMatchObject({ pid, state: 'running' });
    expect(top.vcpus).toHaveLength(CPUS);
    for (const { cpuPercent, rip } of [...top.vcpus, ...top.vcpus]) {
      expect(cpuPercent).toBeGreaterThan(0);
      expect(rip).toMatch(/^0x[0-9a-f]{6,16}$/);
    }
    expect(answer<object[]>(stdout, 'where')).toHaveLength(CPUS);
    expect(answer<RegisterSet>(stdout, 'regs').special['cr0']).toMatch(/^0x8005003[0-9a-f]$/);
    expect(states('partly').map((state) => state === 'paused')).toEqual([false, true, true, false]);
    expect(states('vcpus').filter((state) => state === 'paused')).toEqual([]);

    const [before, after] = [nmisIn(stdout)[0]!, nmisIn(stdout).at(-1)!];
    expect(after.map((count, cpu) => count - before[cpu]!)).toEqual([1, 2, 1, 1]);

    // Linux says of each NMI that it does not know why, in the middle of whatever is being printed.
    const whole = answer<number>(stdout, 'before-nmi');
    const beats = [...stdout.matchAll(/^VOLT-GUEST beat (\d+)\r$/gm)]
      .map((match) => Number(match[1]))
      .slice(0, whole);
    expect(stdout).toContain(`${ROUNDS} rounds`);
    expect(beats.length).toBeGreaterThan(3);
    expect(beats).toEqual(beats.map((_, i) => i + 1));
    expect(stdout).not.toMatch(/soft lockup|rcu.*stall/);
    expect(stderr).not.toContain('the guest hangs');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
