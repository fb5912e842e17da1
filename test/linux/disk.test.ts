/** Debian's own drivers on Volt's disks: every mode by fio, file systems, and what a killed Volt leaves behind. */
import { afterAll, describe, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDiskInitrd } from './disk-guest.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, test, thorough, VOLT } from './linux-host.ts';

const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'disk-initrd');
/** Bound for a hang only. */
const SECONDS = 300;
let kernel: DebianKernel;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await ensurePackages(['mkfs.ext4', 'e2fsck']);
  kernel = await fetchDebianKernel('amd64');
  await Bun.write(initrd, await buildDiskInitrd(kernel));
}, 400_000);

afterAll(stopLinuxHost);

/** A shell script with `$volt` as the command that boots the guest; `$dir` is a folder of its own. */
function runScript(check: string, script: string) {
  const prelude = `
    dir=$(mktemp -d); cd "$dir"
    boot() { "$volt" --no-reboot --cpus 2 --memory 640M --kernel "$kernel" --initrd "$initrd" \\
      --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=$check" "$@" < /dev/null; }`;
  const environment = [`volt=${VOLT}`, `kernel=${kernel.vmlinux}`, `initrd=${initrd}`, `check=${check}`];
  return runOnLinuxHost(['env', ...environment, 'sh', '-c', `${prelude}\n${script}\nrm -r "$dir"`], SECONDS);
}

describe('disks of Linux', () => {
  thorough(
    'hold what fio writes, in every mode',
    async () => {
      const { stdout, exitCode } = await runScript(
        'disks',
        `for name in plain through sync async queues base; do truncate -s 8M $name; done
        boot --rng --disk plain --disk path=through,id=through,cache=writethrough --disk path=sync,engine=sync \\
          --disk path=async,engine=async --disk path=queues,queues=2 --disk path=base,overlay=overlay,id=over \\
          --disk path=base,readonly,id=ro
        [ "$(tr -d '\\0' < base | wc -c)" = 0 ] && echo base untouched`,
      );

      expect(stdout).toContain('VOLT-GUEST vda serial=disk0 ro=0');
      expect(stdout).toContain('VOLT-GUEST vdb serial=through ro=0');
      expect(stdout).toContain('VOLT-GUEST vde serial=disk4 ro=0 queues=2');
      expect(stdout).toContain('VOLT-GUEST vdf serial=over ro=0');
      expect(stdout).toContain('VOLT-GUEST vdg serial=ro ro=1');
      const results = [...stdout.matchAll(/VOLT-GUEST (vd.) fio=(\d+)/g)].map(
        ([, disk, code]) => `${disk} ${code}`,
      );
      expect(results).toEqual(['vda 0', 'vdb 0', 'vdc 0', 'vdd 0', 'vde 0', 'vdf 0']);
      expect(stdout).toContain('VOLT-GUEST discarded');
      expect(Number(/VOLT-GUEST random=(\d+)/.exec(stdout)?.[1])).toBeGreaterThan(1024 * 1024);
      expect(stdout).toContain('base untouched');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  test(
    'hold a file system that the host finds clean',
    async () => {
      const { stdout, exitCode } = await runScript(
        'files',
        `truncate -s 32M image; mkfs.ext4 -q -F image; boot --disk image; e2fsck -fn image && echo clean`,
      );

      expect(stdout).toContain('VOLT-GUEST same');
      expect(stdout).toContain('VOLT-GUEST trimmed');
      expect(stdout).toContain('clean\n');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'are block devices of the host, with their size and blocks',
    async () => {
      const { stdout, exitCode } = await runScript(
        'devices',
        `for name in blocks sectors; do truncate -s 8M $name; done; dd if=/dev/urandom of=locked bs=1M count=1 2>/dev/null
        blocks=$(losetup --show -f -b 4096 blocks) sectors=$(losetup --show -f sectors)
        locked=$(losetup --show -f -r locked)
        boot --disk path=$blocks,direct --disk path=$sectors --disk path=$locked,readonly
        code=$?
        md5sum locked; du -k blocks
        losetup -d $blocks $sectors $locked
        exit $code`,
      );

      expect(stdout).toContain('VOLT-GUEST vda ro=0 sectors=16384 block=4096');
      expect(stdout).toContain('VOLT-GUEST vdb ro=0 sectors=16384 block=512');
      expect(stdout).toContain('VOLT-GUEST vdc ro=1 sectors=2048 block=512');
      const results = [...stdout.matchAll(/VOLT-GUEST (vd.) fio=(\d+)/g)].map(
        ([, disk, code]) => `${disk} ${code}`,
      );
      expect(results).toEqual(['vda 0', 'vdb 0']);
      expect(stdout).toContain('VOLT-GUEST discarded');
      expect(stdout).toContain('VOLT-GUEST read-only: Operation not permitted');
      expect(/VOLT-GUEST (\w{32})/.exec(stdout)?.[1]).toBe(/^(\w{32}) {2}locked$/m.exec(stdout)![1]!);
      expect(stdout).toMatch(/^0\tblocks$/m);
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough.each(['plain', 'overlay'])(
    'lose nothing that was flushed when Volt is killed under load: %s',
    async (mode) => {
      const script = resolve(import.meta.dir, 'crash-disk.ts');
      const argv = [process.execPath, script, VOLT, kernel.vmlinux, initrd, mode];

      const { stdout, exitCode } = await runOnLinuxHost(argv, SECONDS);

      expect(stdout).toMatch(/^killed after \d+\n/);
      expect(stdout).toContain('blocks missing=0 torn=0\n');
      expect(stdout).toContain('file system clean\n');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );
});
