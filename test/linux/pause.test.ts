/** Pausing a busy Linux guest loses neither its interrupts nor its console. */
import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd } from '../../scripts/initrd.ts';
import { LINUX_TEST, runOnLinuxHost, stopLinuxHost, VOLT } from './linux-host.ts';

const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'guest-initrd');
const ROUNDS = 200;
/** Bound for a hang only. */
const SECONDS = 120;
let kernel: DebianKernel;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await Bun.write(initrd, await buildGuestInitrd());
  kernel = await fetchDebianKernel('amd64');
});

afterAll(stopLinuxHost);

test(
  'hundreds of rounds on a Linux guest with 4 busy CPUs leave its clock ticking and its console whole',
  async () => {
    const cmdline = 'console=ttyS0 reboot=k panic=-1 quiet volt.run=spin';
    const script = `
      dir=$(mktemp -d); out=$dir/out; sock=$dir/sock
      "$1" --cpus 4 --kernel "$2" --initrd "$3" --cmdline "$4" --control "$sock" < /dev/null > "$out" &
      until grep -q 'beat 2' "$out"; do sleep 0.1; done
      "$5" "$6" "$sock" "$7" || exit 1
      seen=$(grep -c 'VOLT-GUEST beat' "$out")
      until [ "$(grep -c 'VOLT-GUEST beat' "$out")" -ge $((seen + 2)) ]; do sleep 0.1; done
      "$1" ctl "$sock" vcpus
      "$1" ctl "$sock" stop
      wait; cat "$out"; rm -r "$dir"`;
    const rounds = resolve(import.meta.dir, 'pause-rounds.ts');
    const argv = [
      'sh',
      '-c',
      script,
      'sh',
      VOLT,
      kernel.vmlinux,
      initrd,
      cmdline,
      process.execPath,
      rounds,
      String(ROUNDS),
    ];

    const { stdout, exitCode } = await runOnLinuxHost(argv, SECONDS);

    const beats = [...stdout.matchAll(/^VOLT-GUEST beat (\d+)\r$/gm)].map((match) => Number(match[1]));
    expect(stdout).toContain(`${ROUNDS} rounds`);
    expect(beats.length).toBeGreaterThan(3);
    expect(beats).toEqual(beats.map((_, i) => i + 1));
    expect(stdout).not.toMatch(/soft lockup|rcu.*stall/);
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
