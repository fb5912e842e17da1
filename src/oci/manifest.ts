/** The JSON of an OCI image: index, manifest and configuration. (OCI image-spec 1.1, image-index.md, manifest.md, config.md) */
import * as v from 'valibot';
import { found, wholeNumber } from '../schema/values.ts';
import { VoltError } from '../volt-error.ts';

/** An index, a manifest or a configuration is no longer than this. */
export const MAX_JSON_BYTES = 4 * 1024 * 1024;
const MAX_LAYERS = 128;
const MAX_MANIFESTS = 1024;
const MAX_BLOB_BYTES = 2 ** 50;

/** Compressions of layers. */
export type Compression = 'none' | 'gzip' | 'zstd';

const LAYER_TYPES: Readonly<Record<string, Compression>> = {
  'application/vnd.oci.image.layer.v1.tar': 'none',
  'application/vnd.oci.image.layer.v1.tar+gzip': 'gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd': 'zstd',
  'application/vnd.docker.image.rootfs.diff.tar': 'none',
  'application/vnd.docker.image.rootfs.diff.tar.gzip': 'gzip',
};

const INDEX_TYPES = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);
const MANIFEST_TYPES = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]);

/** SHA-256 alone: it is what every engine writes. */
const DigestSchema = v.pipe(
  v.string(),
  v.regex(/^sha256:[0-9a-f]{64}$/, (issue) => `${found(issue.input)} (expected sha256: and 64 digits)`),
);

const DescriptorSchema = v.object({
  mediaType: v.string(),
  digest: DigestSchema,
  size: wholeNumber(0, MAX_BLOB_BYTES),
});

export type Descriptor = v.InferOutput<typeof DescriptorSchema>;

const IndexSchema = v.object({
  schemaVersion: v.literal(2),
  manifests: v.pipe(
    v.array(
      v.object({
        ...DescriptorSchema.entries,
        platform: v.optional(v.object({ architecture: v.string(), os: v.string() })),
      }),
    ),
    v.maxLength(MAX_MANIFESTS),
  ),
});

const ManifestSchema = v.object({
  schemaVersion: v.literal(2),
  config: DescriptorSchema,
  layers: v.pipe(v.array(DescriptorSchema), v.minLength(1), v.maxLength(MAX_LAYERS)),
});

const ConfigSchema = v.object({
  rootfs: v.object({ type: v.literal('layers'), diff_ids: v.array(DigestSchema) }),
});

export interface Layer extends Descriptor {
  readonly compression: Compression;
}

/** Where an index leads: the manifest of this machine, or a further index. */
export function chooseManifest(text: Uint8Array, name: string): { next: Descriptor; isIndex: boolean } {
  const { manifests } = parse(IndexSchema, text, `${name}'s index`);
  const known = manifests.filter(
    ({ mediaType, platform }) =>
      (INDEX_TYPES.has(mediaType) || MANIFEST_TYPES.has(mediaType)) &&
      (platform === undefined || (platform.architecture === 'amd64' && platform.os === 'linux')),
  );
  const digests = new Set(known.map(({ digest }) => digest));
  if (digests.size !== 1)
    throw imageError(
      name,
      `its index has ${digests.size} images for linux/amd64; keep one: skopeo copy oci:DIR:TAG oci:OTHER-DIR`,
    );
  return { next: known[0]!, isIndex: INDEX_TYPES.has(known[0]!.mediaType) };
}

export function readManifest(
  text: Uint8Array,
  name: string,
): { config: Descriptor; layers: readonly Layer[] } {
  const { config, layers } = parse(ManifestSchema, text, `${name}'s manifest`);
  return {
    config,
    layers: layers.map((layer) => {
      const compression = Object.hasOwn(LAYER_TYPES, layer.mediaType)
        ? LAYER_TYPES[layer.mediaType]
        : undefined;
      if (compression !== undefined) return { ...layer, compression };
      throw imageError(
        name,
        `a layer has the media type ${found(layer.mediaType)}; build it as tar, gzip or zstd`,
      );
    }),
  };
}

/** Digests of the layers as they are unpacked. */
export function readDiffIds(text: Uint8Array, name: string, layers: number): readonly string[] {
  const { rootfs } = parse(ConfigSchema, text, `${name}'s configuration`);
  if (rootfs.diff_ids.length === layers) return rootfs.diff_ids;
  throw imageError(
    name,
    `its configuration names ${rootfs.diff_ids.length} layers and its manifest ${layers}`,
  );
}

export function imageError(name: string, what: string, cause?: unknown): VoltError {
  return new VoltError('image', `Cannot use --image ${name}: ${what}`, { cause });
}

function parse<const T extends v.GenericSchema>(schema: T, text: Uint8Array, what: string): v.InferOutput<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch (error) {
    throw imageError(what, 'it is not JSON', error);
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw imageError(what, `${v.getDotPath(issue) ?? 'it'}: ${issue.message}`);
}
