/** A plain tarball for systems that are not Debian: unpack it and run bin/volt, or copy it over /usr. */
import { cpSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { runText, type ReleaseContext } from './context.ts';
import { settleTree, writeTree } from './tree.ts';

/** Writes `volt-VERSION-linux-x64.tar.gz` into `output` by way of the empty folder `stage`; returns its path. */
export async function buildTarball(stage: string, output: string, context: ReleaseContext): Promise<string> {
  const name = `volt-${context.version}-linux-x64`;
  const tree = join(stage, 'tree');
  const top = join(stage, name);
  writeTree(tree, context);
  renameSync(join(tree, 'usr'), top);
  mkdirSync(join(top, 'lib/systemd'), { recursive: true });
  renameSync(join(tree, 'lib/systemd/system'), join(top, 'lib/systemd/system'));
  cpSync(join(tree, 'etc'), join(top, 'etc'), { recursive: true });
  runText(['chmod', '-R', 'u=rwX,go=rX', top]);
  runText(['chmod', '755', join(top, 'bin/volt')]);
  settleTree(top, context);
  const archive = join(stage, `${name}.tar`);
  const owner = ['--owner=0', '--group=0', '--numeric-owner'];
  runText(['tar', '--sort=name', '--format=gnu', ...owner, '-C', dirname(top), '-cf', archive, name]);
  const path = join(output, `${name}.tar.gz`);
  writeFileSync(path, Bun.gzipSync(await Bun.file(archive).bytes(), { level: 6 }));
  return path;
}
