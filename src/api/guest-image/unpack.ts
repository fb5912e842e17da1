/**
 * Unpacks kernel, initrd, command line and root disk of a guest from an OCI image. The image is not trusted: digests are
 * verified, and files have the fixed names of `oci/guest-files.ts`, in a new folder that only this user can open.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { createLayerReader, GUEST_FILES, type GuestFile } from '../../oci/guest-files.ts';
import {
  chooseManifest,
  imageError,
  MAX_JSON_BYTES,
  readDiffIds,
  readManifest,
  type Descriptor,
  type Layer,
} from '../../oci/manifest.ts';
import { VoltError } from '../../volt-error.ts';
import { blobName, openArchive, openFolder, readPieces, type Layout } from './blobs.ts';

/** Paths of a guest's files; `kernel` is always there. */
export interface GuestImage {
  readonly kernel: string;
  readonly initrd: string | undefined;
  readonly cmdline: string | undefined;
  readonly disk: string | undefined;
  /** An overlay for the disk, which is to be new for each guest. */
  readonly overlay: string;
}

/** Files of an image as they are named where it is unpacked. */
type Unpacked = ReadonlySet<GuestFile>;

/** Longest chain of indexes that lead to a manifest. */
const MAX_INDEXES = 4;
/** Pieces of zeroes of this size become holes. */
const HOLE_BYTES = 64 * 1024;

/**
 * The files of the image at `path`: an OCI layout as a folder or in a tar archive, which is unpacked below `scratch`
 * unless it has been already, or a folder that is an image's root. Throws VoltError 'image' and 'host'.
 */
export async function openGuestImage(path: string, scratch: string): Promise<GuestImage> {
  try {
    const isFolder = statSync(path).isDirectory();
    if (isFolder && !existsSync(join(path, 'oci-layout'))) return describe(path, path, scratch);
    using layout = isFolder ? openFolder(path) : openArchive(path);
    const manifest = findManifest(layout, path);
    const folder = join(
      scratch,
      `volt-image-${manifest.digest.slice('sha256:'.length, 'sha256:'.length + 32)}`,
    );
    if (!isOwnFolder(folder)) await unpack(layout, path, manifest, folder);
    return describe(folder, path, scratch);
  } catch (error) {
    if (error instanceof VoltError || !(error instanceof Error)) throw error;
    throw imageError(path, error.message, error);
  }
}

function describe(root: string, path: string, scratch: string): GuestImage {
  const fileAt = (file: GuestFile) => {
    const at = join(root, GUEST_FILES[file].path);
    const state = lstatSync(at, { throwIfNoEntry: false });
    if (state === undefined) return undefined;
    if (state.isFile() && state.size <= GUEST_FILES[file].maxBytes) return at;
    throw imageError(
      path,
      `its ${GUEST_FILES[file].path} is no file of at most ${GUEST_FILES[file].maxBytes} bytes`,
    );
  };
  const kernel = fileAt('kernel');
  if (kernel === undefined)
    throw imageError(path, `it has no ${GUEST_FILES.kernel.path}; see docs/fleet.md, "Guest images"`);
  const cmdline = fileAt('cmdline');
  return {
    kernel,
    initrd: fileAt('initrd'),
    cmdline: cmdline === undefined ? undefined : readFileSync(cmdline, 'utf8').trim().replace(/\s+/g, ' '),
    disk: fileAt('disk'),
    overlay: join(scratch, `volt-overlay-${process.pid}`),
  };
}

function findManifest(layout: Layout, path: string): Descriptor {
  let text = readJson(layout, 'index.json', path);
  for (let depth = 0; depth < MAX_INDEXES; depth++) {
    const { next, isIndex } = chooseManifest(text, path);
    if (!isIndex) return next;
    text = readBlob(layout, next, path);
  }
  throw imageError(path, `its index leads to an index ${MAX_INDEXES} times`);
}

function readJson(layout: Layout, name: string, path: string): Uint8Array {
  const range = layout.find(name);
  if (range === undefined) throw imageError(path, `it has no ${name} (expected an OCI image layout)`);
  if (range.bytes > MAX_JSON_BYTES) throw imageError(path, `its ${name} has ${range.bytes} bytes`);
  return Buffer.concat([...readPieces(range)]);
}

function readBlob(layout: Layout, descriptor: Descriptor, path: string): Uint8Array {
  const bytes = readJson(layout, blobName(descriptor), path);
  checkDigest(path, descriptor.digest, `sha256:${createHash('sha256').update(bytes).digest('hex')}`);
  return bytes;
}

function checkDigest(path: string, named: string, found: string): void {
  if (named !== found)
    throw imageError(path, `what is called ${named} has the digest ${found}; fetch it again`);
}

/** A folder of this user that nobody else may enter. Throws VoltError for one that is somebody else's. */
function isOwnFolder(folder: string): boolean {
  const state = lstatSync(folder, { throwIfNoEntry: false });
  if (state === undefined) return false;
  if (state.isDirectory() && state.uid === process.getuid!() && (state.mode & 0o77) === 0) return true;
  throw new VoltError(
    'host',
    `Cannot unpack an image into ${folder}: it is not a folder that you alone may open; remove it, or give another --scratch`,
  );
}

/** Files appear under `folder` when all of them are there and verified. */
async function unpack(layout: Layout, path: string, manifest: Descriptor, folder: string): Promise<void> {
  const { config, layers } = readManifest(readBlob(layout, manifest, path), path);
  const diffIds = readDiffIds(readBlob(layout, config, path), path, layers.length);
  const partial = `${folder}.${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { mode: 0o700 });
  try {
    let below: Unpacked = new Set();
    for (const [i, layer] of layers.entries()) {
      below = await unpackLayer(layout, path, layer, diffIds[i]!, partial, below);
    }
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    // Another Volt has unpacked the same image meanwhile.
    if ((error as NodeJS.ErrnoException).code === 'ENOTEMPTY' && isOwnFolder(folder)) return;
    throw error;
  }
}

async function unpackLayer(
  layout: Layout,
  path: string,
  layer: Layer,
  diffId: string,
  folder: string,
  below: Unpacked,
): Promise<Unpacked> {
  const range = layout.find(blobName(layer));
  if (range === undefined) throw imageError(path, `it has no ${blobName(layer)}; fetch the whole image`);
  if (range.bytes !== layer.size)
    throw imageError(path, `${blobName(layer)} has ${range.bytes} bytes (expected ${layer.size})`);
  using writer = new GuestFileWriter(folder, below);
  const reader = createLayerReader(path, writer);
  const [packed, plain] = [createHash('sha256'), createHash('sha256')];
  const source = Readable.from(
    (function* () {
      for (const piece of readPieces(range)) {
        packed.update(piece);
        yield piece;
      }
    })(),
  );
  const consume = async (pieces: AsyncIterable<Uint8Array>) => {
    for await (const piece of pieces) {
      plain.update(piece);
      reader.push(piece);
    }
  };
  if (layer.compression === 'none') await pipeline(source, consume);
  else
    await pipeline(source, layer.compression === 'gzip' ? createGunzip() : createZstdDecompress(), consume);
  reader.finish();
  checkDigest(path, layer.digest, `sha256:${packed.digest('hex')}`);
  checkDigest(path, diffId, `sha256:${plain.digest('hex')}`);
  return writer.files;
}

/** Writes a layer's files; a later layer replaces files of an earlier one. */
class GuestFileWriter implements Disposable {
  readonly #folder: string;
  readonly #below: Unpacked;
  readonly #files: Set<GuestFile>;
  readonly #written = new Set<GuestFile>();
  #fd = -1;
  #at = 0;
  #bytes = 0;

  constructor(folder: string, below: Unpacked) {
    this.#folder = folder;
    this.#below = below;
    this.#files = new Set(below);
  }

  get files(): Unpacked {
    return this.#files;
  }

  begin(file: GuestFile, bytes: number): void {
    const at = join(this.#folder, GUEST_FILES[file].path);
    rmSync(at, { force: true });
    mkdirSync(dirname(at), { recursive: true, mode: 0o700 });
    this.#fd = openSync(at, 'wx', 0o600);
    this.#at = 0;
    this.#bytes = bytes;
    this.#files.add(file);
    this.#written.add(file);
  }

  data(piece: Uint8Array): void {
    for (let from = 0; from < piece.length; from += HOLE_BYTES) {
      const part = piece.subarray(from, from + HOLE_BYTES);
      if (!isZero(part))
        for (let done = 0; done < part.length;) {
          done += writeSync(this.#fd, part, done, part.length - done, this.#at + done);
        }
      this.#at += part.length;
    }
  }

  end(): void {
    ftruncateSync(this.#fd, this.#bytes);
    this[Symbol.dispose]();
  }

  /** A layer hides files of those below it, not its own. */
  remove(file: GuestFile): void {
    if (!this.#below.has(file) || this.#written.has(file)) return;
    rmSync(join(this.#folder, GUEST_FILES[file].path), { force: true });
    this.#files.delete(file);
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).every((byte) => byte === 0);
}
