/**
 * Debian's root file system: packages by mmdebstrap, kept as a tar archive in a cache; then the few files that turn
 * it into a machine.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { debianSources } from './apt-sources.ts';
import type { DebianKernel } from './debian-kernel.ts';
import { ensurePackages } from './host-packages.ts';
import { runProgram } from './run-program.ts';

export const imageCacheDir = resolve(import.meta.dir, '../.cache/debian-image');

/**
 * Beyond Debian's essential and required packages and apt. dbus is for logind, which hears the power button.
 */
const PACKAGES = ['systemd-sysv', 'systemd-resolved', 'udev', 'kmod', 'dbus', 'iproute2', 'procps'];

/** Makes /bin and /lib links from the start, where otherwise the package usrmerge would, with all of Perl. */
const MERGED_USR = '--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr';

/** apt's timers download lists and packages by themselves; the others look for EFI variables and LVM, which are missing. */
const DISABLED_UNITS = [
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'e2scrub_all.timer',
  'e2scrub_reap.service',
  'systemd-pstore.service',
];
/** Started when a network device appears, by the rule below. */
const NETWORK_UNITS = ['systemd-networkd.service', 'systemd-networkd.socket', 'systemd-resolved.service'];
/**
 * There is no screen for a getty and for drm, and no partition to grow. The two mounts load modules for programs
 * that are not in the image; who opens /dev/fuse loads fuse anyway.
 */
const MASKED_UNITS = [
  'getty@tty1.service',
  'modprobe@drm.service',
  'systemd-repart.service',
  'sys-fs-fuse-connections.mount',
  'sys-kernel-config.mount',
];

export interface RootSettings {
  /** undefined: root needs no password. */
  readonly password: string | undefined;
  readonly autologin: boolean;
  readonly hostname: string;
  /** Of the file system, for fstab. */
  readonly uuid: string;
}

/** Latest modification time in the archive, in seconds since 1970: the release of Debian 12. Archives are comparable. */
const FILE_TIME = Date.UTC(2023, 5, 10) / 1000;

/**
 * A tar archive of an installed Debian; from the cache unless `fresh`. The first time takes about half a minute,
 * 60 MB of downloads, and root.
 */
export async function fetchDebianRoot(
  suite: string,
  packages: readonly string[],
  fresh: boolean,
): Promise<string> {
  const wanted = [...new Set([...PACKAGES, ...packages])].sort();
  const archive = join(imageCacheDir, `${suite}-${Bun.hash(wanted.join(',')).toString(16)}.tar`);
  if (!fresh && existsSync(archive)) {
    const day = statSync(archive).mtime.toISOString().slice(0, 10);
    process.stderr.write(`Using the packages of ${day} (--fresh downloads them again)\n`);
    return archive;
  }
  await ensurePackages(['mmdebstrap']);
  const sources = await debianSources(suite);
  mkdirSync(imageCacheDir, { recursive: true });
  const unfinished = `${archive}.${process.pid}`;
  process.stderr.write(`Installing Debian ${suite} into an archive: ${wanted.join(' ')}\n`);
  try {
    const include = `--include=${wanted.join(',')}`;
    await runMmdebstrap(
      ['--variant=minbase', '--format=tar', MERGED_USR, include, suite, unfinished, '-'],
      sources,
    );
    renameSync(unfinished, archive);
  } finally {
    rmSync(unfinished, { force: true });
  }
  return archive;
}

async function runMmdebstrap(args: string[], sources: readonly string[]): Promise<void> {
  const child = Bun.spawn(['mmdebstrap', ...args], {
    env: { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(FILE_TIME) },
    stdin: new TextEncoder().encode(sources.map((line) => `${line}\n`).join('')),
    stdout: 'ignore',
    stderr: 'pipe',
  });
  const errors: string[] = [];
  let partial = '';
  for await (const bytes of child.stderr) {
    // Its progress bars end in carriage returns.
    const lines = (partial + Buffer.from(bytes).toString()).split(/[\r\n]+/);
    partial = lines.pop() ?? '';
    for (const line of lines) {
      if (/^(I: (run|download|extract|install|creat)\w*) /.test(line))
        process.stderr.write(`  ${line.slice(3)}\n`);
      if (line.startsWith('E: ')) errors.push(line.slice(3));
    }
  }
  const code = await child.exited;
  if (code !== 0) {
    throw new Error(`Cannot install Debian: mmdebstrap ended with ${code}, ${errors.join('; ') || partial}`);
  }
}

/** Unpacks a root file system into an empty folder and configures it. Needs root: the files belong to many users. */
export async function unpackRoot(
  archive: string,
  root: string,
  kernel: DebianKernel,
  settings: RootSettings,
): Promise<void> {
  await runProgram([
    'tar',
    '-x',
    '--numeric-owner',
    '--xattrs',
    '--xattrs-include=*',
    '-f',
    archive,
    '-C',
    root,
  ]);
  const modules = join(root, 'usr/lib/modules', kernel.version);
  cpSync(kernel.modulesDir, modules, { recursive: true });
  await inRoot(root, ['depmod', kernel.version]);
  await inRoot(root, ['systemctl', 'disable', '-q', ...DISABLED_UNITS, ...NETWORK_UNITS]);
  await inRoot(root, ['systemctl', 'mask', '-q', ...MASKED_UNITS]);
  for (const [path, text] of Object.entries(settingFiles(settings))) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    rmSync(join(root, path), { force: true });
    writeFileSync(join(root, path), text);
  }
  const hash = settings.password === undefined ? '' : await hashPassword(settings.password);
  const shadow = join(root, 'etc/shadow');
  writeFileSync(
    shadow,
    readFileSync(shadow, 'utf8').replace(/^root:[^:]*/m, () => `root:${hash}`),
  );
  // Otherwise the first boot rebuilds caches that are up to date: systemd-update-done.service(8).
  for (const path of ['etc/.updated', 'var/.updated']) {
    const { mtime } = statSync(join(root, 'usr'));
    writeFileSync(join(root, path), `TIMESTAMP_NSEC=${BigInt(mtime.getTime()) * 1_000_000n}\n`);
    utimesSync(join(root, path), mtime, mtime);
  }
}

/** Files to write below the root, by path. */
export function settingFiles({ autologin, hostname, uuid }: RootSettings): Record<string, string> {
  const login = autologin
    ? `[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - $TERM\n`
    : undefined;
  return {
    'etc/hostname': `${hostname}\n`,
    'etc/hosts': `127.0.0.1 localhost\n127.0.1.1 ${hostname}\n::1 localhost ip6-localhost\n`,
    // Empty: each machine makes an id of its own at its first boot; machine-id(5).
    'etc/machine-id': '',
    'etc/fstab': `UUID=${uuid} / ext4 errors=remount-ro 0 1\n`,
    'etc/systemd/network/80-virtio.network':
      '[Match]\nDriver=virtio_net\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nUseDomains=yes\n',
    // No LLMNR or multicast DNS, for which systemd-resolved would listen on the network.
    'etc/systemd/resolved.conf.d/volt.conf': '[Resolve]\nLLMNR=no\nMulticastDNS=no\n',
    // A machine without a network device has no daemons for one; one that gets a device later starts them.
    'etc/udev/rules.d/80-volt-network.rules':
      'ACTION=="add", SUBSYSTEM=="net", DRIVERS=="virtio_net", TAG+="systemd", ' +
      'ENV{SYSTEMD_WANTS}+="systemd-networkd.service systemd-resolved.service"\n',
    // Linux leaves a plugged CPU offline until somebody writes 1 to its file `online` (core-api/cpu_hotplug.rst).
    'etc/udev/rules.d/80-volt-cpu.rules':
      'SUBSYSTEM=="cpu", ACTION=="add", ATTR{online}=="0", ATTR{online}="1"\n',
    ...(login === undefined
      ? {}
      : { 'etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf': login }),
  };
}

/** In the form that Debian's crypt(5) reads. */
export async function hashPassword(password: string): Promise<string> {
  return (await Bun.password.hash(password, { algorithm: 'bcrypt', cost: 8 })).replace(/^\$2[ay]\$/, '$2b$');
}

async function inRoot(root: string, argv: readonly string[]): Promise<void> {
  await runProgram(['chroot', root, ...argv], { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } });
}
