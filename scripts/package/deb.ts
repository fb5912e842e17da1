/** The Debian package, written by dpkg-deb. */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { runText, type ReleaseContext } from './context.ts';
import { gzip, installedKib, settleTree, writeTree } from './tree.ts';

const MAINTAINER = 'Volt maintainers <volt@users.noreply.example>';
const REVISION = 1;
/** Run by dpkg; Debian Policy 6. */
const MAINTAINER_SCRIPTS = ['postinst', 'prerm', 'postrm'];

/** Writes `volt_VERSION-1_amd64.deb` into `output` by way of the empty folder `stage`; returns its path. */
export function buildDeb(stage: string, output: string, context: ReleaseContext): string {
  const version = `${context.version}-${REVISION}`;
  writeTree(stage, context);
  const docs = join(stage, 'usr/share/doc/volt');
  writeFileSync(join(docs, 'changelog.Debian.gz'), gzip(debianChangelog(version, context.epoch)));
  mkdirSync(join(stage, 'usr/share/lintian/overrides'), { recursive: true });
  writeFileSync(
    join(stage, 'usr/share/lintian/overrides/volt'),
    readFileSync(resolve(import.meta.dir, 'files/lintian-overrides')),
  );
  const kib = installedKib(stage);
  const sums = md5sums(stage);
  const control = join(stage, 'DEBIAN');
  mkdirSync(control);
  writeFileSync(join(control, 'control'), controlFile(version, kib, neededGlibc(context.binary)));
  writeFileSync(join(control, 'md5sums'), sums);
  writeFileSync(join(control, 'conffiles'), '/etc/volt/demo.json\n');
  for (const name of MAINTAINER_SCRIPTS) {
    copyFileSync(resolve(import.meta.dir, 'files', name), join(control, name));
  }
  runText(['chmod', '-R', 'u=rwX,go=rX', stage]);
  runText([
    'chmod',
    '755',
    join(stage, 'usr/bin/volt'),
    ...MAINTAINER_SCRIPTS.map((name) => join(control, name)),
  ]);
  settleTree(stage, context);
  const path = join(output, `volt_${version}_amd64.deb`);
  // One thread: the parts that several threads compress depend on how many there are.
  const compression = ['-Zxz', '-z1', '--threads-max=1'];
  runText(['dpkg-deb', '--root-owner-group', ...compression, '--build', stage, path], {
    SOURCE_DATE_EPOCH: String(context.epoch),
  });
  return path;
}

function controlFile(version: string, kib: number, glibc: string): string {
  return `Package: volt
Version: ${version}
Section: admin
Priority: optional
Architecture: amd64
Maintainer: ${MAINTAINER}
Installed-Size: ${kib}
Depends: libc6 (>= ${glibc})
Recommends: systemd (>= 247)
Description: virtual machine monitor with SMP at its heart
 Volt boots Linux and other x86-64 kernels under KVM, on as many virtual CPUs
 as wanted, from one executable. Guests find their processors through MP
 tables; volt inspect shows and checks what a guest will see.
 .
 The template unit volt@.service runs the guest that /etc/volt/NAME.json
 describes, with as few privileges as that takes.
`;
}

function debianChangelog(version: string, epoch: number): string {
  const date = new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
  return `volt (${version}) unstable; urgency=medium

  * See /usr/share/doc/volt/changelog.gz.

 -- ${MAINTAINER}  ${date}
`;
}

/** What the executable asks of the dynamic linker: the highest version of glibc that it names. */
function neededGlibc(binary: string): string {
  const text = readFileSync(binary).toString('latin1');
  const minors = [...text.matchAll(/\0GLIBC_2\.(\d+)(?=[.\d]*\0)/g)].map((match) => Number(match[1]));
  if (minors.length === 0)
    throw new Error(`Cannot package ${binary}: it names no GLIBC version (expected one)`);
  return `2.${Math.max(...minors)}`;
}

function md5sums(stage: string): string {
  const paths = readdirSync(stage, { recursive: true, encoding: 'utf8' }).sort();
  return paths
    .filter((path) => !path.startsWith('etc/') && statSync(join(stage, path)).isFile())
    .map(
      (path) =>
        `${createHash('md5')
          .update(readFileSync(join(stage, path)))
          .digest('hex')}  ${path}\n`,
    )
    .join('');
}
