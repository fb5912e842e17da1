/**
 * The external programs the test tooling calls, and the Debian package each comes from.
 *
 * Recommended packages are never needed: qemu-system-x86 depends on everything the machines used here load
 * (seabios for q35 and microvm, qemu-system-data for pvh.bin, qemu-system-common for the TCG accelerator).
 */
import { closeSync, openSync, readSync } from 'node:fs';

/** Program name -> Debian package. */
export const hostPrograms = {
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  xz: 'xz-utils',
  setpriv: 'util-linux',
  iasl: 'acpica-tools',
  acpiexec: 'acpica-tools',
  'apt-get': 'apt',
  'apt-cache': 'apt',
  dpkg: 'dpkg',
  ip: 'iproute2',
  iperf3: 'iperf3',
  socat: 'socat',
  passt: 'passt',
  virtiofsd: 'qemu-system-common',
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-img': 'qemu-utils',
  fio: 'fio',
  lspci: 'pciutils',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  mmdebstrap: 'mmdebstrap',
  'dpkg-deb': 'dpkg',
  tar: 'tar',
  lintian: 'lintian',
  man: 'man-db',
  fish: 'fish',
  zsh: 'zsh',
  'systemd-analyze': 'systemd',
  'qemu-x86_64': 'qemu-user',
  dockerd: 'docker.io',
  docker: 'docker.io',
  runc: 'runc',
  time: 'time',
} as const;

export type HostProgram = keyof typeof hostPrograms;

const allPrograms = Object.keys(hostPrograms) as HostProgram[];

/** Where packages put programs that people do not start by hand. */
const BESIDE_PATH = '/usr/libexec:/usr/lib/qemu';

/** Debian packages, sorted and without repeats, whose programs are not on the PATH. */
export function missingPackages(programs: readonly HostProgram[] = allPrograms): string[] {
  const missing = programs.filter((program) => !isUsable(program)).map((program) => hostPrograms[program]);
  return [...new Set(missing)].sort();
}

/**
 * Installs what is missing, with progress on stderr. Needs root and apt-get.
 * Throws a one-line Error naming the packages when it cannot install them.
 */
export async function ensurePackages(programs: readonly HostProgram[] = allPrograms): Promise<void> {
  const packages = missingPackages(programs);
  if (packages.length === 0) return;
  const wanted = packages.join(' ');
  const hint = `run: apt-get install --no-install-recommends ${wanted}`;
  if (process.getuid?.() !== 0 || Bun.which('apt-get') === null) {
    throw new Error(`Cannot find ${wanted}: not installed, and installing needs root and apt-get (${hint})`);
  }
  process.stderr.write(`Installing Debian packages: ${wanted}\n`);
  await runAptGet(['update', '-q'], hint);
  await runAptGet(['install', '-q', '-y', '--no-install-recommends', ...packages], hint);
  const still = missingPackages(programs);
  if (still.length > 0)
    throw new Error(`Cannot use ${still.join(' ')}: installed, but not found on the PATH`);
}

function isUsable(program: HostProgram): boolean {
  const path = Bun.which(program, { PATH: `${process.env['PATH'] ?? ''}:${BESIDE_PATH}` });
  if (path === null) return false;
  // Debian's plain `busybox` package links to libc, which an initrd does not have.
  return program !== 'busybox' || isStaticElf(path);
}

/** True for an ELF64 file without a PT_INTERP program header; reads only its first page. */
function isStaticElf(path: string): boolean {
  const page = Buffer.alloc(4096);
  const file = openSync(path, 'r');
  const length = readSync(file, page, 0, page.length, 0);
  closeSync(file);
  if (length < 64 || page.readUInt32BE(0) !== 0x7f454c46) return false;
  const ptInterp = 3;
  const tableOffset = Number(page.readBigUInt64LE(0x20));
  const entryBytes = page.readUInt16LE(0x36);
  const entryCount = page.readUInt16LE(0x38);
  for (let index = 0; index < entryCount; index++) {
    const offset = tableOffset + index * entryBytes;
    if (offset + 4 > length) return false;
    if (page.readUInt32LE(offset) === ptInterp) return false;
  }
  return true;
}

async function runAptGet(args: string[], hint: string): Promise<void> {
  const child = Bun.spawn(['apt-get', ...args], {
    // Without SYSTEMD_OFFLINE Debian's docker.io starts an engine at once, which changes the host's packet filter.
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', SYSTEMD_OFFLINE: '1' },
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
  });
  const [exitCode, errors] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  if (exitCode === 0) return;
  const reason = errors.trim().split('\n').at(-1) ?? '';
  throw new Error(`Cannot run apt-get ${args[0]}: exit code ${exitCode}, ${reason} (${hint})`);
}

if (import.meta.main) {
  if (Bun.argv.includes('--help')) {
    process.stdout.write(
      'Usage: npx bun scripts/host-packages.ts\n\nInstalls the programs the tests need (Debian, root).\n',
    );
  } else {
    await ensurePackages().catch((error: Error) => {
      process.stderr.write(`${error.message}\n`);
      process.exitCode = 1;
    });
  }
}
