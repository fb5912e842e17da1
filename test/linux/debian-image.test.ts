/** A Debian made by scripts/debian-image.ts: used on its console like any machine, and left clean. */
import { afterAll, describe, expect } from 'bun:test';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { DEFAULT_IMAGE_OPTIONS, makeDebianImage } from '../../scripts/debian-image.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import {
  beforeAll,
  EVERY_BOOT,
  LINUX_TEST,
  runOnLinuxHost,
  stopLinuxHost,
  test,
  VOLT,
} from './linux-host.ts';

const folder = resolve(import.meta.dir, '../../.cache/test/debian');
const path = `${folder}/debian.img`;
const PASSWORD = 'a word for root';
/** Bound for a hang only. */
const SECONDS = 800;
const isRoot = process.getuid?.() === 0;

/** What a small Debian must not bring: a kernel (Volt has it), compilers, servers. */
const UNWANTED = /^(linux-image|grub|gcc-\d+$|g\+\+|make$|openssh|cron|rsyslog|exim|python3)/;

beforeAll(async () => {
  if (!isRoot || !EVERY_BOOT) return;
  mkdirSync(folder, { recursive: true });
  await ensurePackages(['e2fsck', 'ip', 'passt', 'busybox']);
  const sizeBytes = 512 * 1024 ** 2;
  await makeDebianImage({ ...DEFAULT_IMAGE_OPTIONS, path, sizeBytes, rootPassword: PASSWORD });
}, 400_000);

afterAll(stopLinuxHost);

describe.skipIf(!isRoot || !EVERY_BOOT)('an image with Debian (needs root to make)', () => {
  test('comes with the files that Volt needs, and nothing else', () => {
    expect(readdirSync(folder).sort()).toEqual([
      'debian.img',
      'debian.initrd',
      'debian.json',
      'debian.vmlinux',
    ]);
  });

  test('is refused when the disk would be too small, and then leaves nothing', async () => {
    const tiny = `${folder}-tiny.img`;

    const making = makeDebianImage({ ...DEFAULT_IMAGE_OPTIONS, path: tiny, sizeBytes: 64 * 1024 ** 2 });

    await expect(making).rejects.toThrow(
      /^Cannot make .*-tiny.img: 64M is too small for its files \(expected at least \d+M\)$/,
    );
    expect(existsSync(tiny)).toBe(false);
  }, 60_000);

  test(
    'boots to a login with 2 CPUs, a network and no failed service, hears the power button, and leaves a clean file system',
    async () => {
      const console_ = resolve(import.meta.dir, 'debian-console.ts');
      // passt takes addresses and routes from the host's interface with the default route: here one of ours.
      const script = `
        set -e
        ip link set lo up
        ip tuntap add up0 mode tap
        ip addr add 192.0.2.2/24 dev up0
        ip link set up0 up
        ip route add default via 192.0.2.1
        pages=$(mktemp -d)
        chmod 755 $pages
        echo hello from the host > $pages/page
        busybox httpd -f -p 127.0.0.1:8080 -h $pages & server=$!
        trap 'kill $server; rm -r $pages' EXIT
        "$@"`;
      const argv = [process.execPath, console_, VOLT, `${folder}/debian.json`, PASSWORD];

      const { stdout, stderr } = await runOnLinuxHost(
        ['unshare', '--net', 'sh', '-c', script, 'sh', ...argv],
        SECONDS,
      );

      process.stderr.write(stderr);
      expect(stdout).toStartWith('{');
      const seen = JSON.parse(stdout);
      expect(seen).toMatchObject({ cpus: '2', state: 'running', failed: '', root: '/dev/vda ext4' });
      expect(seen.packages.split('\n')).toContain('systemd-sysv');
      expect(seen.packages.split('\n').filter((name: string) => UNWANTED.test(name))).toEqual([]);
      expect(seen.network).toMatch(/ UP +192\.0\.2\.2\/24\b/);
      expect(seen.page).toBe('hello from the host');
      expect(seen.servers).toBe('');
      expect(seen).toMatchObject({ exitCode: 0, fileSystem: 0, base: 0 });
    },
    LINUX_TEST,
  );
});
