/** What lies in the image: the executables, the libraries that the dynamic linker loads for them, and their licences. */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  existsSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { dirname, join, resolve } from 'node:path';
import { licenceList, listComponents } from '../package/components.ts';
import { runText, type ReleaseContext } from '../package/context.ts';

/** A file of a Debian package that the image takes from the system that builds it. */
export interface SystemFile {
  /** Where it lies here, and in the image. */
  readonly path: string;
  readonly package: string;
  readonly version: string;
  readonly sha256: string;
}

const INTERPRETER = '/lib64/ld-linux-x86-64.so.2';
/** passt starts the second one in its own place on a CPU with AVX2. */
const PASST = ['/usr/bin/passt', '/usr/bin/passt.avx2'];

/** The files from Debian's packages that go into an image with this executable, sorted by path. */
export function systemFiles(binary: string, withPasst: boolean): SystemFile[] {
  const programs = withPasst ? PASST.filter((path) => existsSync(path)) : [];
  const libraries = [binary, ...programs].flatMap(librariesOf);
  const paths = [...new Set([INTERPRETER, ...libraries, ...programs])].sort();
  return paths.map((path) => ({ path, ...owner(path), sha256: sha256Of(path) }));
}

/** Absolute paths, as the dynamic linker finds them. */
function librariesOf(program: string): string[] {
  const lines = runText([INTERPRETER, '--list', program]).split('\n');
  return lines.flatMap((line) => /=> (\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

/** dpkg knows a file by its path in the package, which may be that before or after /usr was merged. */
function owner(path: string): { package: string; version: string } {
  for (const name of [path, realpathSync(path)]) {
    const ran = Bun.spawnSync(['dpkg-query', '--search', name], { stdout: 'pipe', stderr: 'ignore' });
    const found = /^([a-z0-9][a-z0-9.+-]+)(?::\w+)?: /.exec(ran.stdout.toString())?.[1];
    if (ran.exitCode !== 0 || found === undefined) continue;
    return { package: found, version: runText(['dpkg-query', '--show', '-f', '${Version}', found]) };
  }
  throw new Error(`Cannot say where ${path} is from: no Debian package owns it; build the image on Debian`);
}

function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Writes the image's root directory into the empty folder `root`. Modes do not depend on the umask. */
export function writeRoot(
  root: string,
  context: ReleaseContext,
  taken: readonly SystemFile[],
  bill: string,
): void {
  const place = (path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    return join(root, path);
  };
  copyFileSync(context.binary, place('usr/bin/volt'));
  for (const { path } of taken) copyFileSync(path, place(path));
  const docs = 'usr/share/doc';
  writeFileSync(place(`${docs}/volt/volt.cdx.json`), bill);
  writeFileSync(place(`${docs}/volt/licences.txt`), licenceList(context.version, listComponents()));
  copyFileSync(resolve(import.meta.dir, '../package/files/copyright'), place(`${docs}/volt/copyright`));
  for (const name of new Set(taken.map((file) => file.package))) {
    copyFileSync(`/${docs}/${name}/copyright`, place(`${docs}/${name}/copyright`));
  }
  runText(['chmod', '-R', 'u=rwX,go=rX', root]);
  chmodSync(join(root, 'usr/bin/volt'), 0o755);
  mkdirSync(join(root, 'tmp'));
  chmodSync(join(root, 'tmp'), 0o1777);
}
