/** Images of guests: layers as tar archives, and the JSON of their manifests. */
import { createLayerReader, GUEST_FILES, type GuestFile } from '../../../src/oci/guest-files.ts';
import { chooseManifest, readDiffIds, readManifest } from '../../../src/oci/manifest.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { buildTar, layoutFiles } from '../../../test/support/oci-image.ts';
import { kindOf, type FuzzTarget } from '../target.ts';

const BLOCK = 512;
const CHECKSUM_AT = 148;

interface Outcome {
  readonly problem: string | undefined;
  /** What was written of each file, in order. */
  readonly writes: string;
}

/** Reads a layer in pieces of this many bytes. */
function readLayer(layer: Uint8Array, piece: number): Outcome {
  let writes = '';
  let open: { file: GuestFile; left: number } | undefined;
  const reader = createLayerReader('image', {
    begin: (file, bytes) => {
      if (bytes > GUEST_FILES[file].maxBytes) throw new Error(`${file} may have ${bytes} bytes`);
      open = { file, left: bytes };
      writes += `[${file} ${bytes} `;
    },
    data: (part) => {
      open!.left -= part.length;
      if (open!.left < 0) throw new Error(`${open!.file} got more than it has`);
      writes += Buffer.from(part).toString('hex');
    },
    end: () => {
      if (open!.left !== 0) throw new Error(`${open!.file} ended ${open!.left} bytes too early`);
      open = undefined;
      writes += ']';
    },
    remove: (file) => void (writes += `-${file}`),
  });
  try {
    for (let at = 0; at < layer.length; at += piece) reader.push(layer.subarray(at, at + piece));
    reader.finish();
    return { problem: undefined, writes };
  } catch (error) {
    if (error instanceof VoltError) return { problem: error.message, writes };
    throw error;
  }
}

/** With right checksums, as hostile archives have them. */
function withChecksums(input: Uint8Array): Uint8Array {
  const archive = input.slice();
  for (let at = 0; at + BLOCK <= archive.length; at += BLOCK) {
    const header = archive.subarray(at, at + BLOCK);
    if (Buffer.from(header.subarray(257, 262)).toString('latin1') !== 'ustar') continue;
    header.fill(0x20, CHECKSUM_AT, CHECKSUM_AT + 8);
    const sum = header.reduce((a, b) => a + b, 0);
    header.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `), CHECKSUM_AT);
  }
  return archive;
}

const text = (words: string) => new TextEncoder().encode(words);

export const layerTarget: FuzzTarget = {
  name: 'image-layer',
  what: 'layers of guest images, in pieces of any size',
  seeds: () => [
    buildTar([
      { name: 'boot/', type: '5' },
      { name: './boot/kernel', data: text('kernel') },
    ]),
    buildTar([
      { name: 'x', type: 'x', data: text('20 path=boot/initrd\n9 size=3\n') },
      { name: 'y', data: text('abc') },
      { name: 'disk/.wh.root.img' },
    ]),
    buildTar([
      { name: 'l', type: 'L', data: text('boot/cmdline\0') },
      { name: 'z', data: text('quiet') },
      { name: 'boot/.wh..wh..opq' },
    ]),
  ],
  words: ['boot/kernel', 'disk/root.img', '.wh.', '../', 'ustar', 'path=', 'size=', 'GNU.sparse.'],
  run: (input) => {
    const layer = input.length % 4 === 1 ? input : withChecksums(input);
    const whole = readLayer(layer, Math.max(1, layer.length));
    const pieces = readLayer(layer, 1 + (input[0] ?? 0));
    if (whole.problem !== pieces.problem || whole.writes !== pieces.writes)
      throw new Error(`differs in pieces: ${whole.problem} and ${pieces.problem}`);
    return kindOf(whole.problem ?? `taken ${whole.writes.replace(/[0-9a-f]{2,}/g, '')}`);
  },
};

export const manifestTarget: FuzzTarget = {
  name: 'image-manifest',
  what: 'indexes, manifests and configurations of guest images',
  seeds: () => {
    const files = layoutFiles([{ tar: buildTar([{ name: 'boot/kernel' }]) }]);
    return [...files].filter(([, bytes]) => bytes[0] === 0x7b).map(([, bytes]) => bytes);
  },
  words: [
    'manifests',
    'platform',
    'mediaType',
    'sha256:',
    'layers',
    'diff_ids',
    'application/vnd.oci.image.',
  ],
  run: (input) => {
    const readers = [
      () => chooseManifest(input, 'image'),
      () => readManifest(input, 'image'),
      () => readDiffIds(input, 'image', 1),
    ];
    return readers
      .map((reader) => {
        try {
          reader();
          return 'taken';
        } catch (error) {
          if (error instanceof VoltError && !error.message.includes('\n')) return kindOf(error.message);
          throw error;
        }
      })
      .join(', ');
  },
};
