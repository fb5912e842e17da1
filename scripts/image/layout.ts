/**
 * An image as files, without a container engine: the OCI image layout (image-spec 1.1, image-layout.md), and the same
 * folder with Docker's manifest.json in one archive, which `docker load`, `podman load` and `ctr images import` read.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runText, type ReleaseContext } from '../package/context.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const MEDIA = {
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
} as const;

export interface ImageContent {
  /** Repository and tag. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The one layer. */
  readonly tar: Uint8Array<ArrayBuffer>;
  /** The `config` object of the image configuration. (image-spec, config.md) */
  readonly runs: Readonly<Record<string, unknown>>;
}

/** Writes the layout into the empty folder `folder`. Returns the manifest's descriptor. */
export function writeLayout(folder: string, image: ImageContent, { epoch }: ReleaseContext): Descriptor {
  const created = new Date(epoch * 1000).toISOString().replace('.000', '');
  const blobs = join(folder, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const store = (mediaType: string, bytes: Uint8Array): Descriptor => {
    const hex = digestOf(bytes);
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const storeJson = (mediaType: string, value: unknown) => store(mediaType, toJson(value));

  const layer = store(MEDIA.layer, Bun.gzipSync(image.tar, { level: 6 }));
  const config = storeJson(MEDIA.config, {
    created,
    architecture: 'amd64',
    os: 'linux',
    config: { ...image.runs, Labels: image.labels },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digestOf(image.tar)}`] },
    history: [{ created, created_by: 'npm run image' }],
  });
  const manifest = storeJson(MEDIA.manifest, {
    schemaVersion: 2,
    mediaType: MEDIA.manifest,
    config,
    layers: [layer],
    annotations: image.labels,
  });
  const tag = image.name.slice(image.name.lastIndexOf(':') + 1);
  const annotations = {
    'org.opencontainers.image.ref.name': tag,
    'io.containerd.image.name': `docker.io/library/${image.name}`,
  };
  writeFileSync(join(folder, 'oci-layout'), toJson({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(
    join(folder, 'index.json'),
    toJson({ schemaVersion: 2, mediaType: MEDIA.index, manifests: [{ ...manifest, annotations }] }),
  );
  writeFileSync(
    join(folder, 'manifest.json'),
    toJson([{ Config: blobPath(config), RepoTags: [image.name], Layers: [blobPath(layer)] }]),
  );
  return manifest;
}

function blobPath({ digest }: Descriptor): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function toJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Archives a folder: sorted, owned by root, of the release's time. */
export function archiveFolder(folder: string, path: string, { epoch }: ReleaseContext): void {
  const owner = ['--owner=0', '--group=0', '--numeric-owner', `--mtime=@${epoch}`];
  runText(['tar', '--sort=name', '--format=ustar', ...owner, '-C', folder, '-cf', path, '.']);
}
