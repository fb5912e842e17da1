/**
 * The files of a guest in the root of an image, by fixed names. Nothing else of an image is written anywhere, so no name
 * in an archive is ever used as a path.
 */
import { imageError } from './manifest.ts';
import { TarReader, type TarEntry } from './tar.ts';

/** Path in the image, and the most bytes that it may have. */
export const GUEST_FILES = {
  kernel: { path: 'boot/kernel', maxBytes: 2 ** 30 },
  initrd: { path: 'boot/initrd', maxBytes: 2 ** 32 },
  cmdline: { path: 'boot/cmdline', maxBytes: 4096 },
  disk: { path: 'disk/root.img', maxBytes: 2 ** 44 },
} as const;

export type GuestFile = keyof typeof GUEST_FILES;

const NAMES = Object.keys(GUEST_FILES) as GuestFile[];

/** Prefix of an entry that removes a file of the layers below. (image-spec, layer.md, "Whiteouts") */
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

export interface LayerEffects {
  /** Begins a file anew; what was there of it before is void. */
  begin(file: GuestFile, bytes: number): void;
  data(piece: Uint8Array): void;
  end(): void;
  /** The file of lower layers is not part of the image. */
  remove(file: GuestFile): void;
}

/** A reader of one layer, unpacked, that reports the guest's files in it. Throws VoltError 'image'. */
export function createLayerReader(image: string, effects: LayerEffects): TarReader {
  return new TarReader(`--image ${image}`, {
    entry: (entry) => {
      removedBy(entry.name).forEach((file) => effects.remove(file));
      const file = NAMES.find((name) => GUEST_FILES[name].path === entry.name);
      if (file === undefined) return false;
      checkFile(image, entry, GUEST_FILES[file].maxBytes);
      effects.begin(file, entry.bytes);
      return true;
    },
    data: (piece) => effects.data(piece),
    end: () => effects.end(),
  });
}

function removedBy(name: string): GuestFile[] {
  const slash = name.lastIndexOf('/');
  const [folder, last] = [name.slice(0, slash + 1), name.slice(slash + 1)];
  if (!last.startsWith(WHITEOUT)) return [];
  if (last === OPAQUE) return NAMES.filter((file) => GUEST_FILES[file].path.startsWith(folder));
  const gone = `${folder}${last.slice(WHITEOUT.length)}`;
  return NAMES.filter((file) => `${GUEST_FILES[file].path}/`.startsWith(`${gone}/`));
}

function checkFile(image: string, { name, type, bytes }: TarEntry, maxBytes: number): void {
  if (type !== 'file') {
    const found = { directory: 'a directory', link: 'a link', other: 'no plain file', file: '' }[type];
    throw imageError(image, `its ${name} is ${found}; put the file itself there`);
  }
  if (bytes > maxBytes)
    throw imageError(image, `its ${name} has ${bytes} bytes (expected at most ${maxBytes})`);
}
