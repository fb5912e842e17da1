/**
 * Builds what is released: a Debian package, a plain tarball, the bill of materials and SHA256SUMS over them. The same
 * commit gives the same bytes (SOURCE_DATE_EPOCH, or the time of the last commit, is in all of them).
 *
 * Usage: npx bun scripts/package.ts [--output DIR] [--binary FILE]
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildVolt } from './build.ts';
import { ensurePackages } from './host-packages.ts';
import { releaseContext, root } from './package/context.ts';
import { buildDeb } from './package/deb.ts';
import { billOfMaterials } from './package/sbom.ts';
import { buildTarball } from './package/tarball.ts';

/** Returns the paths of what was made. */
export async function buildRelease(output: string, binary: string): Promise<string[]> {
  const context = releaseContext(binary);
  mkdirSync(output, { recursive: true });
  const stage = mkdtempSync(join(tmpdir(), 'volt-package-'));
  try {
    const bom = join(output, `volt-${context.version}.cdx.json`);
    writeFileSync(bom, billOfMaterials(context));
    const made = [
      buildDeb(join(stage, 'deb'), output, context),
      await buildTarball(join(stage, 'tar'), output, context),
      bom,
    ];
    const sums = made.map((path) => `${sha256(path)}  ${basename(path)}\n`).join('');
    writeFileSync(join(output, 'SHA256SUMS'), sums);
    return [...made, join(output, 'SHA256SUMS')];
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { output: { type: 'string', default: resolve(root, 'build') }, binary: { type: 'string' } },
  });
  await ensurePackages(['dpkg-deb', 'tar']);
  const binary = values.binary ?? resolve(root, 'volt');
  if (values.binary === undefined) buildVolt(binary);
  for (const path of await buildRelease(resolve(values.output), resolve(binary))) console.log(path);
}
