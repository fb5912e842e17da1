/** The files of a release as they lie on a Debian system, in a folder, for the package and the tarball. */
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { configSchemaText } from '../config-schema.ts';
import { bashCompletion, fishCompletion, zshCompletion } from './completions.ts';
import { readCommandTree } from './command-tree.ts';
import { licenceList, listComponents } from './components.ts';
import { root, type ReleaseContext } from './context.ts';
import { manPages } from './man-page.ts';
import { billOfMaterials } from './sbom.ts';

const files = resolve(import.meta.dir, 'files');

/** Writes the tree under `folder`; paths are those under /. */
export function writeTree(folder: string, context: ReleaseContext): void {
  const add = (path: string, content: string | Uint8Array, mode = 0o644) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true, mode: 0o755 });
    writeFileSync(join(folder, path), content, { mode });
  };
  const own = (name: string) => readFileSync(join(files, name));
  const docs = 'usr/share/doc/volt';

  mkdirSync(join(folder, 'usr/bin'), { recursive: true, mode: 0o755 });
  copyFileSync(context.binary, join(folder, 'usr/bin/volt'));
  add('usr/lib/volt/smp-kernel', readFileSync(resolve(root, 'kernels/smp/smp.elf')));
  add('lib/systemd/system/volt@.service', own('volt@.service'));
  for (const folder of ['lib/systemd/system', 'usr/lib/systemd/user'])
    add(`${folder}/volt-pool.service`, own('volt-pool.service'));
  add('etc/volt/demo.json', own('demo.json'));

  const tree = readCommandTree();
  const date = new Date(context.epoch * 1000).toISOString().slice(0, 10);
  for (const { file, text } of manPages(tree, { version: context.version, date })) {
    add(`usr/share/man/man1/${file}.gz`, gzip(text));
  }
  add('usr/share/bash-completion/completions/volt', bashCompletion(tree));
  add('usr/share/zsh/vendor-completions/_volt', zshCompletion(tree));
  add('usr/share/fish/vendor_completions.d/volt.fish', fishCompletion(tree));

  const components = listComponents();
  add(`${docs}/copyright`, own('copyright'));
  add(`${docs}/licences.txt`, licenceList(context.version, components));
  add(`${docs}/volt.cdx.json`, billOfMaterials(context));
  add(`${docs}/volt.schema.json`, configSchemaText());
  const readme = readFileSync(resolve(root, 'README.md'), 'utf8');
  // Debian Policy 12.7 has the changelog compressed.
  add(`${docs}/README.md`, readme.replaceAll('](CHANGELOG.md)', '](changelog.gz)'));
  for (const path of documents()) add(`${docs}/${path}`, readFileSync(resolve(root, path)));
  add(`${docs}/changelog.gz`, gzip(readFileSync(resolve(root, 'CHANGELOG.md'))));
}

/** What README.md links to, at the same relative paths. */
function documents(): string[] {
  const folders = ['docs', 'examples'].flatMap((folder) =>
    readdirSync(resolve(root, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
      join(folder, name),
    ),
  );
  const paths = [
    'SECURITY.md',
    'CONTRIBUTING.md',
    'src/README.md',
    'kernels/smp/README.md',
    ...folders.sort(),
  ];
  return paths.filter((path) => statSync(resolve(root, path)).isFile());
}

/** Without a name and a time, so that the same content gives the same bytes. */
export function gzip(content: string | Uint8Array): Uint8Array {
  return Bun.gzipSync(content as Uint8Array<ArrayBuffer>, { level: 9 });
}

/** Sets every time in `folder` to the release's, and modes to what Debian expects, whatever umask there was. */
export function settleTree(folder: string, { epoch }: ReleaseContext): void {
  for (const path of [...readdirSync(folder, { recursive: true, encoding: 'utf8' }), '.']) {
    utimesSync(join(folder, path), epoch, epoch);
  }
}

/** Kibibytes that the tree takes when installed, each file rounded up. (Debian Policy 5.6.20) */
export function installedKib(folder: string): number {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((path) => statSync(join(folder, path)))
    .reduce((sum, state) => sum + (state.isFile() ? Math.ceil(state.size / 1024) : 1), 0);
}
