/** A host that lacks something: one line that says what it is and what to do, and exit code 1. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { kvmOpens, runVolt } from './volt-process.ts';
import { canChangeMounts, inOwnMounts } from './own-mounts.ts';

setDefaultTimeout(120_000);

const NO_KVM = inOwnMounts('mount -t tmpfs none /dev');
const OTHER_DEVICE = inOwnMounts('mount --bind /dev/null /dev/kvm');
const NO_PERMISSION = inOwnMounts('mount --bind /dev/kvm /dev/kvm && mount -o remount,bind,nodev /dev/kvm');

const LOAD_KVM =
  'load kvm_intel or kvm_amd, enable VT-x or AMD-V in the firmware, or nested virtualization if this host is itself a virtual machine';

describe.skipIf(!canChangeMounts)('a host (needs unshare, user namespaces and /dev/kvm)', () => {
  test('without /dev/kvm', async () => {
    const { stdout, stderr, exitCode } = await runVolt([], { prefix: NO_KVM });

    expect(stderr).toBe(`volt: Cannot start: open /dev/kvm failed: ENOENT (no such file); ${LOAD_KVM}\n`);
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });

  test('whose /dev/kvm this user may not open', async () => {
    const { stdout, stderr, exitCode } = await runVolt([], { prefix: NO_PERMISSION });

    expect(stderr).toBe(
      'volt: Cannot start: open /dev/kvm failed: EACCES (permission denied); add your user to the kvm group (usermod -aG kvm USER, then log in again) or run as root; a container needs the group of the device (--group-add)\n',
    );
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });

  test('whose /dev/kvm is something else', async () => {
    const { stdout, stderr, exitCode } = await runVolt([], { prefix: OTHER_DEVICE });

    expect(stderr).toBe('volt: Cannot use /dev/kvm: its API version is -1 (expected 12)\n');
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });

  test('without /dev/kvm, asked by volt doctor: a failed check with advice', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['doctor'], { prefix: NO_KVM });

    expect(stdout).toStartWith(`fail  /dev/kvm: open /dev/kvm failed: ENOENT (no such file); ${LOAD_KVM}\n`);
    expect(stdout).toEndWith('\nThis host cannot run Volt yet.\n');
    expect(stderr).toBe('');
    expect(exitCode).toBe(1);
  });

  test('without /dev/kvm, asked for a selftest: one line', async () => {
    const { stderr, exitCode } = await runVolt(['selftest', '--json'], { prefix: NO_KVM });

    expect(stderr).toBe(`volt: Cannot start: open /dev/kvm failed: ENOENT (no such file); ${LOAD_KVM}\n`);
    expect(exitCode).toBe(1);
  });
});

const meminfo = readFileSync('/proc/meminfo', 'utf8');
const hugePages = Number(/HugePages_Free:\s+(\d+)/.exec(meminfo)?.[1] ?? 0);

describe.skipIf(!kvmOpens)('a host that has less than was asked for (needs /dev/kvm)', () => {
  test.skipIf(hugePages > 0)('no huge pages (needs a host that has not reserved any)', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['--hugepages', '--memory', '64M']);

    expect(stderr).toBe(
      'volt: Cannot start: mmap of 67108864 bytes for guest RAM failed: ENOMEM (out of memory); reserve 2 MiB pages first (sysctl vm.nr_hugepages) or leave out --hugepages\n',
    );
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });

  test.skipIf(Bun.which('prlimit') === null)(
    'less address space than the guest is to have RAM (needs prlimit)',
    async () => {
      const prefix = ['prlimit', `--as=${60 * 2 ** 30}`];

      const { stdout, stderr, exitCode } = await runVolt(['--memory', '100G'], { prefix });

      expect(stderr).toMatch(
        /^volt: Cannot start: mmap of \d+ bytes for guest RAM failed: ENOMEM \(out of memory\); give the guest less --memory, or raise ulimit -v\n$/,
      );
      expect(stdout).toBe('');
      expect(exitCode).toBe(1);
    },
  );

  test.skipIf(Bun.which('prlimit') === null)('few open files for many vCPUs (needs prlimit)', async () => {
    const prefix = ['prlimit', '--nofile=48:48'];

    const { stdout, stderr, exitCode } = await runVolt(['--cpus', '64'], { prefix });

    expect(stderr).toMatch(/^volt: [^\n]*ulimit -n[^\n]*\n$/);
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });
});

describe.skipIf(!canChangeMounts)('a host without /proc (needs unshare and user namespaces)', () => {
  test('is named in one line, and not by a crash report', async () => {
    const { stdout, stderr, exitCode } = await runVolt(['doctor'], {
      prefix: inOwnMounts('mount -t tmpfs none /proc'),
    });

    expect(stderr).toBe('volt: Cannot start: /proc is not mounted; mount it: mount -t proc proc /proc\n');
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  });
});

test.skipIf(Bun.which('prlimit') === null)(
  'without executable memory there is one line that says why (needs prlimit)',
  async () => {
    const { stdout, stderr, exitCode } = await runVolt(['doctor'], {
      prefix: ['prlimit', '--as=2000000000'],
    });

    expect(stderr).toStartWith('volt: Cannot start: this process may not have executable memory; ');
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(exitCode).toBe(1);
  },
);
