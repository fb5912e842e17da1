/**
 * Initial RAM disks: a newc cpio writer, and the tiny guest the tests boot.
 *
 * Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst ("newc", magic 070701).
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ensurePackages } from './host-packages.ts';

/** One entry; `path` has no leading slash, `mode` holds permission bits only. */
export type InitrdEntry =
  | { path: string; mode: number; data: Uint8Array | string }
  | { path: string; target: string }
  | { path: string; mode: number; charDevice: { major: number; minor: number } }
  | { path: string; mode: number; directory: true };

const fileType = { directory: 0o040000, regular: 0o100000, symlink: 0o120000, charDevice: 0o020000 } as const;

/** The kernel opens it for init's stdin, stdout and stderr before anything is mounted on /dev. */
const consoleNode: InitrdEntry = { path: 'dev/console', mode: 0o600, charDevice: { major: 5, minor: 1 } };

/** An uncompressed newc archive, parent folders added. All files belong to root and carry no time. */
export function buildInitrd(entries: readonly InitrdEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let inode = 0;
  for (const entry of withParents(entries)) parts.push(...encodeEntry(entry, ++inode));
  parts.push(...encodeEntry({ path: 'TRAILER!!!', mode: 0, data: '' }, 0));
  return Buffer.concat(parts);
}

/** Busybox with all its applets as links, the console node and mount points; `init` becomes /init. */
export async function busyboxEntries(init: string): Promise<InitrdEntry[]> {
  await ensurePackages(['busybox']);
  const busybox = Bun.which('busybox');
  if (busybox === null) throw new Error('Cannot find busybox on the PATH');
  const applets = Bun.spawnSync([busybox, '--list']).stdout.toString().split('\n');
  const links = applets
    .filter((applet) => applet !== '' && applet !== 'busybox')
    .map((applet) => ({ path: `bin/${applet}`, target: 'busybox' }));
  const mountPoints = ['proc', 'sys', 'dev', 'run', 'tmp', 'root'];
  return [
    { path: 'init', mode: 0o755, data: init },
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(busybox) },
    ...links,
    ...mountPoints.map((path): InitrdEntry => ({ path, mode: 0o755, directory: true })),
    consoleNode,
  ];
}

/**
 * The guest that tests boot inside Volt: prints the `VOLT-GUEST` lines and ends as the kernel command line says
 * (see guest-init.sh). `extra` entries are added; a script at `checks/<word>` is what `volt.run=<word>` runs.
 */
export async function buildGuestInitrd(extra: readonly InitrdEntry[] = []): Promise<Uint8Array> {
  const init = readFileSync(join(import.meta.dir, 'guest-init.sh'), 'utf8');
  return buildInitrd([...(await busyboxEntries(init)), ...extra]);
}

function withParents(entries: readonly InitrdEntry[]): InitrdEntry[] {
  const named = new Set(entries.map((entry) => entry.path));
  const result: InitrdEntry[] = [];
  const addParents = (path: string): void => {
    const parent = dirname(path);
    if (parent === '.' || named.has(parent)) return;
    addParents(parent);
    named.add(parent);
    result.push({ path: parent, mode: 0o755, directory: true });
  };
  // The kernel unpacks in order and does not make parents, so given folders go first too.
  const isFolder = (entry: InitrdEntry): boolean => 'directory' in entry;
  for (const entry of [...entries.filter(isFolder), ...entries.filter((each) => !isFolder(each))]) {
    addParents(entry.path);
    result.push(entry);
  }
  return result;
}

function encodeEntry(entry: InitrdEntry, inode: number): Uint8Array[] {
  const data = entryData(entry);
  const name = Buffer.from(`${entry.path}\0`);
  const device = 'charDevice' in entry ? entry.charDevice : { major: 0, minor: 0 };
  const links = 'directory' in entry ? 2 : 1;
  const [uid, gid, time, checksum] = [0, 0, 0, 0];
  const fields = [inode, entryMode(entry), uid, gid, links, time, data.length, 0, 0];
  fields.push(device.major, device.minor, name.length, checksum);
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [header, name, padding(header.length + name.length), data, padding(data.length)];
}

function entryMode(entry: InitrdEntry): number {
  if ('target' in entry) return fileType.symlink | 0o777;
  if ('directory' in entry) return fileType.directory | entry.mode;
  if ('charDevice' in entry) return fileType.charDevice | entry.mode;
  return fileType.regular | entry.mode;
}

function entryData(entry: InitrdEntry): Uint8Array {
  if ('target' in entry) return Buffer.from(entry.target);
  if (!('data' in entry)) return new Uint8Array();
  return typeof entry.data === 'string' ? Buffer.from(entry.data) : entry.data;
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}

const helpText = `Usage: npx bun scripts/initrd.ts FILE

Writes the guest initrd to FILE. Words on the guest's kernel command line:
  volt.end=reboot|poweroff|halt|shell|panic   how the guest ends (default reboot)
  volt.run=spin                               one busy loop per CPU, each second a line "VOLT-GUEST beat N"
                                              and the line of /proc/interrupts that counts NMIs
`;

if (import.meta.main) {
  const file = Bun.argv[2];
  if (file === undefined || file.startsWith('-')) {
    process[file === '--help' ? 'stdout' : 'stderr'].write(helpText);
    process.exitCode = file === '--help' ? 0 : 2;
  } else {
    try {
      await Bun.write(file, await buildGuestInitrd());
    } catch (error) {
      process.stderr.write(`${(error as Error).message}\n`);
      process.exitCode = 1;
    }
  }
}
