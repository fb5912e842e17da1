/**
 * Builds the container image, without a container engine: Volt, the files of glibc that it loads, and their licences. The
 * same commit on the same Debian gives the same bytes.
 *
 * Usage: npx bun scripts/image.ts [--output DIR] [--binary FILE] [--passt]
 *   --passt  adds the program passt, for --net user; the tag then ends in -passt
 */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildVolt } from './build.ts';
import { ensurePackages } from './host-packages.ts';
import { imageBill } from './image/bill.ts';
import { systemFiles, writeRoot } from './image/files.ts';
import { archiveFolder, writeLayout } from './image/layout.ts';
import { releaseContext, root, runText, type ReleaseContext } from './package/context.ts';

/** Neither root nor a user that a host is likely to have; the number that distroless images use. */
const USER = '65532:65532';

interface BuiltImage {
  /** Repository and tag. */
  readonly name: string;
  /** Of the manifest; what `image@sha256:…` pins. */
  readonly digest: string;
  /** Folder of the OCI layout. */
  readonly layout: string;
  /** The same in one file, for docker load. */
  readonly archive: string;
  readonly bill: string;
}

/** Throws with what a program said when it fails. */
export async function buildImage(output: string, binary: string, withPasst: boolean): Promise<BuiltImage> {
  const context = releaseContext(binary);
  const tag = `${context.version}${withPasst ? '-passt' : ''}`;
  const layout = join(output, `volt-${tag}.oci`);
  const stage = mkdtempSync(join(tmpdir(), 'volt-image-'));
  try {
    const taken = systemFiles(binary, withPasst);
    const bill = imageBill(context, taken);
    const files = join(stage, 'root');
    mkdirSync(files);
    writeRoot(files, context, taken, bill);
    const layer = join(stage, 'layer.tar');
    archiveFolder(files, layer, context);
    rmSync(layout, { recursive: true, force: true });
    mkdirSync(layout, { recursive: true });
    const { digest } = writeLayout(
      layout,
      {
        name: `volt:${tag}`,
        labels: labelsOf(context),
        tar: await Bun.file(layer).bytes(),
        runs: {
          User: USER,
          Entrypoint: ['/usr/bin/volt'],
          Env: ['PATH=/usr/bin'],
          WorkingDir: '/',
          StopSignal: 'SIGTERM',
        },
      },
      context,
    );
    const archive = join(output, `volt-${tag}-image.tar`);
    runText(['chmod', '-R', 'u=rwX,go=rX', layout]);
    archiveFolder(layout, archive, context);
    const billPath = join(output, `volt-${tag}-image.cdx.json`);
    writeFileSync(billPath, bill);
    return { name: `volt:${tag}`, digest, layout, archive, bill: billPath };
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** Annotations of the OCI image specification (annotations.md). */
function labelsOf({ version, epoch }: ReleaseContext): Record<string, string> {
  const revision = Bun.spawnSync(['git', '-C', root, 'rev-parse', 'HEAD'], { stderr: 'ignore' });
  const prefix = 'org.opencontainers.image';
  return {
    [`${prefix}.created`]: new Date(epoch * 1000).toISOString().replace('.000', ''),
    [`${prefix}.description`]: 'Virtual machine monitor for x86-64 Linux hosts; needs /dev/kvm',
    [`${prefix}.licenses`]: 'Apache-2.0',
    ...(revision.exitCode === 0 ? { [`${prefix}.revision`]: revision.stdout.toString().trim() } : {}),
    [`${prefix}.title`]: 'Volt',
    [`${prefix}.version`]: version,
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      output: { type: 'string', default: resolve(root, 'build') },
      binary: { type: 'string' },
      passt: { type: 'boolean', default: false },
    },
  });
  await ensurePackages(['dpkg', 'tar', ...(values.passt ? (['passt'] as const) : [])]);
  const binary = values.binary ?? resolve(root, 'volt');
  if (values.binary === undefined) buildVolt(binary);
  const image = await buildImage(resolve(values.output), resolve(binary), values.passt);
  const mib = (statSync(image.archive).size / 2 ** 20).toFixed(1);
  console.log(`${image.name}@${image.digest}\n${image.layout}\n${image.archive} (${mib} MiB)\n${image.bill}`);
}
