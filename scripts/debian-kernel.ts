/**
 * Debian's stock kernels, unpacked into a cache folder. Nothing is installed and nothing outside the cache changes.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { extractVmlinux } from './extract-vmlinux.ts';
import { ensurePackages } from './host-packages.ts';

/** `amd64` boots by MP table or ACPI; `cloud-amd64` is built without MP tables and needs ACPI for SMP. */
export const kernelFlavours = ['amd64', 'cloud-amd64'] as const;

export type KernelFlavour = (typeof kernelFlavours)[number];

export interface DebianKernel {
  /** What `uname -r` says, e.g. `6.1.0-56-amd64`. */
  version: string;
  /** Path of the bzImage. */
  vmlinuz: string;
  /** Path of the ELF file that the bzImage holds compressed. */
  vmlinux: string;
  /** Path of `lib/modules/<version>`, without depmod's index files. */
  modulesDir: string;
}

export const defaultKernelCacheDir = resolve(import.meta.dir, '../.cache/debian');

const abandonedAfterMs = 3_600_000;

/**
 * The current kernel of a flavour. The first call downloads it (about 70 MB); later calls read the cache only,
 * so a newer kernel is picked up by deleting `<cacheDir>/<flavour>`.
 */
export async function fetchDebianKernel(
  flavour: KernelFlavour = 'amd64',
  cacheDir: string = defaultKernelCacheDir,
): Promise<DebianKernel> {
  const finalDir = resolve(cacheDir, flavour);
  const cached = readKernelDir(finalDir);
  if (cached !== undefined) return cached;

  await ensurePackages(['apt-get', 'apt-cache', 'dpkg', 'xz']);
  mkdirSync(cacheDir, { recursive: true });
  sweepAbandoned(cacheDir);
  // A sibling of the final folder, so that the rename stays within one file system and is atomic.
  const temporaryDir = join(cacheDir, `.unpacking-${flavour}-${process.pid}-${Date.now()}`);
  mkdirSync(temporaryDir);
  try {
    const archive = await downloadPackage(flavour, temporaryDir);
    const unpackedDir = join(temporaryDir, 'unpacked');
    await runProgram(['dpkg', '-x', archive, unpackedDir], temporaryDir);
    const version = onlyEntry(join(unpackedDir, 'lib/modules'));
    renameSync(join(unpackedDir, 'boot', `vmlinuz-${version}`), join(unpackedDir, 'vmlinuz'));
    rmSync(join(unpackedDir, 'boot'), { recursive: true });
    rmSync(join(unpackedDir, 'usr'), { recursive: true, force: true });
    const bzImage = readFileSync(join(unpackedDir, 'vmlinuz'));
    writeFileSync(join(unpackedDir, 'vmlinux'), extractVmlinux(bzImage));
    moveIntoPlace(unpackedDir, finalDir);
  } finally {
    rmSync(temporaryDir, { recursive: true, force: true });
  }
  const kernel = readKernelDir(finalDir);
  if (kernel === undefined) throw new Error(`Cannot use ${finalDir}: incomplete (delete it and try again)`);
  return kernel;
}

function readKernelDir(dir: string): DebianKernel | undefined {
  try {
    const version = onlyEntry(join(dir, 'lib/modules'));
    const modulesDir = join(dir, 'lib/modules', version);
    return { version, vmlinuz: join(dir, 'vmlinuz'), vmlinux: join(dir, 'vmlinux'), modulesDir };
  } catch {
    return undefined;
  }
}

/** Downloads the package that `linux-image-<flavour>` depends on and returns the path of the .deb. */
async function downloadPackage(flavour: KernelFlavour, dir: string): Promise<string> {
  try {
    return await downloadKnownPackage(flavour, dir);
  } catch (error) {
    // Package lists that are absent (containers) or stale (404) are the usual reason; only root may renew them.
    if (process.getuid?.() !== 0) throw error;
    process.stderr.write('Renewing the Debian package lists\n');
    await runProgram(['apt-get', 'update', '-q'], dir);
    return downloadKnownPackage(flavour, dir);
  }
}

async function downloadKnownPackage(flavour: KernelFlavour, dir: string): Promise<string> {
  const depends = await runProgram(['apt-cache', 'depends', '--important', `linux-image-${flavour}`], dir);
  const name = /Depends: (linux-image-\d\S+)/.exec(depends)?.[1];
  if (name === undefined) {
    throw new Error(
      `Cannot find the kernel package of linux-image-${flavour} (expected Debian's package lists)`,
    );
  }
  process.stderr.write(`Downloading ${name}\n`);
  await runProgram(['apt-get', 'download', '-q', name], dir);
  const archive = readdirSync(dir).find((file) => file.endsWith('.deb'));
  if (archive === undefined) throw new Error(`Cannot download ${name}: apt-get left no .deb`);
  return join(dir, archive);
}

/** Another run may have finished first: its folder is as good as ours. */
function moveIntoPlace(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (readKernelDir(to) === undefined) throw error;
  }
}

/** Removes what killed runs left; the age limit spares a download that another process has under way. */
function sweepAbandoned(cacheDir: string): void {
  for (const name of readdirSync(cacheDir)) {
    if (!name.startsWith('.unpacking-')) continue;
    const path = join(cacheDir, name);
    const modified = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity;
    if (Date.now() - modified > abandonedAfterMs) rmSync(path, { recursive: true, force: true });
  }
}

function onlyEntry(dir: string): string {
  const entries = readdirSync(dir);
  const [entry] = entries;
  if (entry === undefined || entries.length > 1) {
    throw new Error(`Cannot tell the kernel version: ${entries.length} entries in ${dir} (expected 1)`);
  }
  return entry;
}

async function runProgram(argv: string[], cwd: string): Promise<string> {
  const child = Bun.spawn(argv, {
    cwd,
    env: { ...process.env, LC_ALL: 'C' },
    stdin: 'ignore',
    stderr: 'pipe',
  });
  const [exitCode, output, errors] = await Promise.all([
    child.exited,
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if (exitCode !== 0) {
    throw new Error(
      `Cannot run ${argv.join(' ')}: exit code ${exitCode}, ${errors.trim().split('\n').at(-1)}`,
    );
  }
  return output;
}

const helpText = `Usage: npx bun scripts/debian-kernel.ts [FLAVOUR]

Downloads and unpacks Debian's stock kernel once, then prints its paths as JSON:
version, vmlinuz (bzImage), vmlinux (ELF), modulesDir.

FLAVOUR is one of: ${kernelFlavours.join(', ')} (default amd64).
`;

if (import.meta.main) {
  const argument = Bun.argv[2] ?? 'amd64';
  const flavour = kernelFlavours.find((name) => name === argument);
  if (argument === '--help' || argument === '-h') {
    process.stdout.write(helpText);
  } else if (flavour === undefined) {
    process.stderr.write(
      `Cannot fetch kernel "${argument}": no such flavour (expected ${kernelFlavours.join(' or ')})\n`,
    );
    process.exitCode = 2;
  } else {
    try {
      process.stdout.write(`${JSON.stringify(await fetchDebianKernel(flavour), null, 2)}\n`);
    } catch (error) {
      process.stderr.write(`${(error as Error).message}\n`);
      process.exitCode = 1;
    }
  }
}
