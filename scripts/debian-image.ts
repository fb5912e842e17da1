/**
 * A disk image with a small Debian that Volt boots, from Debian's packages: an ext4 file system without partitions,
 * and beside it the kernel, the initrd and a configuration for `volt run --config`.
 */
import {
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
  copyFileSync,
  readFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type DebianKernel, fetchDebianKernel } from './debian-kernel.ts';
import { fetchDebianRoot, imageCacheDir, type RootSettings, unpackRoot } from './debian-root.ts';
import { ensurePackages } from './host-packages.ts';
import { buildInitrd, busyboxEntries } from './initrd.ts';
import { collectModules } from './kernel-modules.ts';
import { runProgram } from './run-program.ts';

export interface DebianImageOptions {
  /** The image to write; `debian.img` brings `debian.vmlinux`, `debian.initrd` and `debian.json` with it. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly suite: string;
  /** Debian packages besides those that every image has. */
  readonly packages: readonly string[];
  readonly rootPassword: string | undefined;
  readonly autologin: boolean;
  /** Download packages again instead of taking the cached ones. */
  readonly fresh: boolean;
}

export interface DebianImage {
  readonly image: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly config: string;
}

export const DEFAULT_IMAGE_OPTIONS = {
  sizeBytes: 1024 ** 3,
  suite: 'bookworm',
  packages: [],
  rootPassword: undefined,
  autologin: false,
  fresh: false,
} as const satisfies Omit<DebianImageOptions, 'path'>;

/** ext4 and the console are built into the cloud kernel; virtio is not. */
const INITRD_MODULES = ['virtio_mmio', 'virtio_blk'];
/** bcrypt reads no more; crypt(5). */
const MAX_PASSWORD_BYTES = 72;
/** The journal, inode tables and 1 % kept for root, on top of what the files take. */
const OVERHEAD = 1.15;
const MIB = 1024 ** 2;

/** The files that go with an image. */
export function filesOf(image: string): DebianImage {
  const stem = image.replace(/\.(img|raw|ext4)$/, '');
  return { image, kernel: `${stem}.vmlinux`, initrd: `${stem}.initrd`, config: `${stem}.json` };
}

/**
 * Makes an image; what was there under its names is replaced at the end. Needs root: the files in it belong to many
 * users. Throws a one-line Error.
 */
export async function makeDebianImage(options: DebianImageOptions): Promise<DebianImage> {
  if (process.getuid?.() !== 0)
    throw new Error(`Cannot make ${options.path}: not root (expected root, for the owners of its files)`);
  await ensurePackages(['mkfs.ext4', 'busybox', 'tar']);
  const kernel = await fetchDebianKernel('cloud-amd64');
  const archive = await fetchDebianRoot(options.suite, options.packages, options.fresh);
  const files = filesOf(options.path);
  mkdirSync(dirname(resolve(files.image)), { recursive: true });
  mkdirSync(imageCacheDir, { recursive: true });
  const root = mkdtempSync(join(imageCacheDir, '.root-'));
  const unfinished = `${files.image}.${process.pid}`;
  try {
    step('Unpacking it');
    const uuid = crypto.randomUUID();
    const settings: RootSettings = {
      password: options.rootPassword,
      autologin: options.autologin,
      hostname: 'debian',
      uuid,
    };
    await unpackRoot(archive, root, kernel, settings);
    await checkSize(root, options);
    step(`Writing ${files.image}`);
    await writeFileSystem(root, unfinished, options.sizeBytes, uuid);
    writeFileSync(files.initrd, await buildRootInitrd(kernel));
    copyFileSync(kernel.vmlinux, files.kernel);
    writeFileSync(files.config, `${JSON.stringify(machineConfig(files), null, 2)}\n`);
    renameSync(unfinished, files.image);
  } finally {
    rmSync(root, { recursive: true, force: true });
    rmSync(unfinished, { force: true });
  }
  return files;
}

/** What `volt run --config` takes: 2 CPUs, 512 MiB, the image as root. */
export function machineConfig({ image, kernel, initrd }: DebianImage): Record<string, unknown> {
  return {
    'boot-source': {
      kernel_image_path: kernel,
      initrd_path: initrd,
      boot_args: 'console=ttyS0 reboot=k panic=-1 quiet',
    },
    'machine-config': { vcpu_count: 2, mem_size_mib: 512 },
    drives: [{ drive_id: 'root', path_on_host: image, is_root_device: true, is_read_only: false }],
  };
}

/** Loads the disk's drivers, mounts the root and hands over to its init. */
export async function buildRootInitrd(kernel: DebianKernel): Promise<Uint8Array> {
  const modules = collectModules(kernel.modulesDir, INITRD_MODULES);
  const init = readFileSync(join(import.meta.dir, 'debian-initrd-init.sh'), 'utf8');
  return buildInitrd([
    ...(await busyboxEntries(init)),
    { path: 'modules/order', mode: 0o644, data: modules.map(({ name }) => `${name}\n`).join('') },
    ...modules.map(({ name, data }) => ({ path: `modules/${name}.ko`, mode: 0o644, data })),
  ]);
}

async function checkSize(root: string, { path, sizeBytes }: DebianImageOptions): Promise<void> {
  const used = Number((await runProgram(['du', '-s', '-B1', root])).split('\t')[0]);
  const needed = Math.ceil((used * OVERHEAD) / MIB);
  if (sizeBytes < needed * MIB) {
    throw new Error(
      `Cannot make ${path}: ${Math.floor(sizeBytes / MIB)}M is too small for its files (expected at least ${needed}M)`,
    );
  }
}

/** The file is new and thus zero, so neither mkfs nor the guest need to clear inode tables. */
async function writeFileSystem(root: string, image: string, bytes: number, uuid: string): Promise<void> {
  const extended = `root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,hash_seed=${uuid}`;
  const size = `${Math.floor(bytes / 1024)}k`;
  await runProgram([
    ...['mkfs.ext4', '-q', '-F', '-L', 'debian', '-U', uuid, '-m', '1', '-E', extended],
    ...['-d', root, image, size],
  ]);
}

function step(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** `1G`, `512M`, or bytes. Throws. */
export function parseSize(text: string): number {
  const [, digits, unit = ''] = /^(\d+)([KMGT]?)$/i.exec(text) ?? [];
  const bytes = Number(digits) * 1024 ** ' KMGT'.indexOf(unit === '' ? ' ' : unit.toUpperCase());
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new TypeError(`Cannot use --size ${text}: not a size (expected a number with K, M or G, as in 1G)`);
}

const helpText = `Usage: npx bun scripts/debian-image.ts IMAGE [OPTION...]

Makes a disk image with a small Debian that Volt boots, from Debian's packages. Besides IMAGE (debian.img) it writes
the kernel (debian.vmlinux), an initrd (debian.initrd) and debian.json for \`volt run --config debian.json\`.

  --size SIZE            of the disk, as in 2G (default 1G); the file takes only what is used
  --packages A,B         further Debian packages
  --suite NAME           Debian's release (default bookworm), from the machine's apt sources
  --autologin            root is logged in on the console
  --root-password WORD   default: root needs none. @FILE takes the first line of FILE
  --fresh                download packages again; the default is those of the last time
  --help                 show this text

Needs root, apt-get and, the first time, about 100 MB of downloads. Nothing is installed on this machine but
mmdebstrap, e2fsprogs and busybox-static, if they are missing.
`;

function readOptions(words: string[]): DebianImageOptions | undefined {
  const { values, positionals } = parseArgs({
    args: words,
    options: {
      size: { type: 'string' },
      packages: { type: 'string', default: '' },
      suite: { type: 'string', default: DEFAULT_IMAGE_OPTIONS.suite },
      autologin: { type: 'boolean', default: false },
      'root-password': { type: 'string' },
      fresh: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
  if (values.help) return undefined;
  const [path, extra] = positionals;
  if (path === undefined || extra !== undefined)
    throw new TypeError(`Cannot make an image: ${positionals.length} names (expected one, as in debian.img)`);
  return {
    path,
    sizeBytes: values.size === undefined ? DEFAULT_IMAGE_OPTIONS.sizeBytes : parseSize(values.size),
    suite: readName('--suite', values.suite),
    packages: values.packages
      .split(',')
      .filter(Boolean)
      .map((name) => readName('--packages', name)),
    rootPassword: values['root-password'] === undefined ? undefined : readPassword(values['root-password']),
    autologin: values.autologin,
    fresh: values.fresh,
  };
}

/** Debian Policy 5.6.1: what a package may be called; suites are called likewise. */
function readName(option: string, name: string): string {
  if (/^[a-z0-9][a-z0-9+.-]*$/.test(name)) return name;
  throw new TypeError(`Cannot use ${option} ${name}: not a name (expected small letters, digits, + . and -)`);
}

/** A word on the command line is seen by everyone on the machine; a file is not. */
function readPassword(text: string): string {
  const password = text.startsWith('@') ? (readFileSync(text.slice(1), 'utf8').split('\n')[0] ?? '') : text;
  const bytes = Buffer.byteLength(password);
  if (bytes > 0 && bytes <= MAX_PASSWORD_BYTES) return password;
  throw new TypeError(`Cannot use --root-password: ${bytes} bytes (expected 1 to ${MAX_PASSWORD_BYTES})`);
}

async function main(): Promise<void> {
  const options = readOptions(Bun.argv.slice(2));
  if (options === undefined) {
    process.stdout.write(helpText);
    return;
  }
  const files = await makeDebianImage(options);
  process.stdout.write(
    `Boot it with:\n\n  ./volt run --config ${files.config}\n\nor, with a disk of your own over it:\n\n` +
      `  ./volt run --cpus 2 --kernel ${files.kernel} --initrd ${files.initrd} \\\n` +
      `    --cmdline "console=ttyS0 reboot=k panic=-1 quiet" --disk path=${files.image},overlay=mine.ov\n\n` +
      `Root ${options.autologin ? 'is logged in' : `logs in with ${options.rootPassword === undefined ? 'no' : 'its'} password`}; ` +
      `\`poweroff\` ends it.\n`,
  );
}

if (import.meta.main) {
  await main().catch((error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = error instanceof TypeError ? 2 : 1;
  });
}
