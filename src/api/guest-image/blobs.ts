/** Where an image's blobs are: in the folder of an OCI layout, or in a tar archive of one. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { imageError, type Descriptor } from '../../oci/manifest.ts';
import { TarReader } from '../../oci/tar.ts';

export interface BlobRange {
  readonly fd: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Files of a layout by their names in it. */
export interface Layout extends Disposable {
  /** undefined: there is none. The range is valid until the next call. */
  find(name: string): BlobRange | undefined;
}

const PIECE_BYTES = 1024 * 1024;

export function blobName({ digest }: Descriptor): string {
  return `blobs/${digest.replace(':', '/')}`;
}

export function openFolder(folder: string): Layout {
  let fd: number | undefined;
  const close = () => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
  };
  return {
    find(name) {
      close();
      try {
        fd = openSync(join(folder, name), 'r');
      } catch {
        return undefined;
      }
      const state = fstatSync(fd);
      return state.isFile() ? { fd, offset: 0, bytes: state.size } : undefined;
    },
    [Symbol.dispose]: close,
  };
}

/** Reads the headers of the archive; data is skipped. Throws VoltError 'image'. */
export function openArchive(path: string): Layout {
  const fd = openSync(path, 'r');
  try {
    const names = listFiles(fd, path);
    return {
      find: (name) => {
        const range = names.get(name);
        return range && { fd, ...range };
      },
      [Symbol.dispose]: () => closeSync(fd),
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function listFiles(fd: number, path: string): Map<string, { offset: number; bytes: number }> {
  const names = new Map<string, { offset: number; bytes: number }>();
  const archive = new TarReader(`--image ${path}`, {
    entry: ({ name, type, bytes, offset }) => {
      if (type === 'file' && isNameOfLayout(name)) names.set(name, { offset, bytes });
      return false;
    },
    data: () => {},
    end: () => {},
  });
  const size = fstatSync(fd).size;
  const block = new Uint8Array(64 * 1024);
  for (let at = 0; at < size;) {
    const skipped = Math.min(archive.skippable, size - at);
    archive.skip(skipped);
    at += skipped;
    const got = readSync(fd, block, 0, block.length, at);
    if (got === 0) break;
    archive.push(block.subarray(0, got));
    at += got;
  }
  archive.finish();
  for (const [name, { offset, bytes }] of names) {
    if (offset + bytes > size) throw imageError(path, `${name} is cut short`);
  }
  return names;
}

function isNameOfLayout(name: string): boolean {
  return name === 'oci-layout' || name === 'index.json' || /^blobs\/sha256\/[0-9a-f]{64}$/.test(name);
}

/** The bytes of a range, in pieces; shorter when the file is. */
export function* readPieces({ fd, offset, bytes }: BlobRange): Generator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < bytes;) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, bytes - at));
    const got = readSync(fd, piece, 0, piece.length, offset + at);
    if (got === 0) return;
    yield piece.subarray(0, got);
    at += got;
  }
}
