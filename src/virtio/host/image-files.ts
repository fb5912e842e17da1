/** Image files and block devices behind disks and persistent memory: opened and locked. */
import { fstatSync, readdirSync } from 'node:fs';
import { directBlockBytes, fileKind, statFile, lockFile, type OpenFileInfo } from '../../ffi/block-file.ts';
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { OPEN, openFile, OwnedFd, readAt } from '../../ffi/file.ts';
import { createUring, type UringParams } from '../../ffi/uring.ts';
import { VoltError } from '../../volt-error.ts';
import { IMAGE_HEAD_BYTES, recogniseContainer } from './image-format.ts';

export interface ImageFile extends Disposable {
  readonly fd: number;
  /** As it was when it was opened. */
  readonly shape: OpenFileInfo;
  /** An io_uring for it; undefined where the host has none, or forbids it. */
  openRing(): UringParams | undefined;
}

/** Opens and locks. Throws VoltError 'image'. */
export function openImageFile(
  path: string,
  flags: number,
  exclusive: boolean,
  direct: boolean,
  flag = DISK_FLAG,
): ImageFile {
  const stack = new DisposableStack();
  const file = stack.use(openAndLock(path, flags, exclusive, direct, flag));
  return {
    fd: file.fd,
    shape: shapeOf(file.fd, direct),
    openRing() {
      const ring = makeRing();
      if (ring) stack.use(new OwnedFd(ring.fd));
      return ring;
    },
    [Symbol.dispose]: () => stack.dispose(),
  };
}

/** A file that is read past the page cache has the blocks of the disk that it lies on. */
function shapeOf(fd: number, direct: boolean): OpenFileInfo {
  const shape = statFile(fd);
  if (shape.kind !== 'file' || !direct) return shape;
  return { ...shape, blockBytes: directBlockBytes(fd) ?? shape.blockBytes };
}

/** Throws VoltError 'image' for an image in a container format: its content is not the disk's. */
export function checkRaw({ fd, shape }: ImageFile, path: string, flag = DISK_FLAG): void {
  if (shape.kind === 'other') return;
  const head = new Uint8Array(IMAGE_HEAD_BYTES);
  // By a description of its own: reads past the page cache would have to be aligned.
  using file = openFile(`/proc/self/fd/${fd}`, OPEN.readOnly);
  readAt(file.fd, head, 0);
  const container = recogniseContainer(head);
  if (!container) return;
  throw new VoltError(
    'image',
    `Cannot use ${flag} ${path}: it is a ${container.name} file, not a raw image; ${container.advice}, or say format=raw if the guest is to see the file as it is`,
  );
}

const RING_ENTRIES = 256;

function makeRing(): UringParams | undefined {
  try {
    return createUring(RING_ENTRIES);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

const FOUND: Readonly<Record<number, string>> = {
  [ERRNO.ENOENT]: 'there is no such file',
  [ERRNO.ENOTDIR]: 'a part of the path is not a directory',
  [ERRNO.EACCES]: 'permission denied',
  [ERRNO.EPERM]: 'not permitted',
  [ERRNO.EISDIR]: 'it is a directory',
  [ERRNO.ELOOP]: 'too many symbolic links',
  [ERRNO.EROFS]: 'its file system is read-only',
  [ERRNO.ETXTBSY]: 'it is a program that runs',
  [ERRNO.ENXIO]: 'there is no such device',
};

function openAndLock(
  path: string,
  flags: number,
  exclusive: boolean,
  direct: boolean,
  flag: string,
): OwnedFd {
  let file: OwnedFd;
  try {
    // A FIFO without a writer must not hold us up.
    file = openFile(path, flags | OPEN.nonBlocking);
    if (exclusive && fileKind(file.fd) === 'block-device') file = claim(file, path, flags);
  } catch (error) {
    if (direct && error instanceof SyscallError && error.errno === ERRNO.EINVAL)
      throw imageError(path, 'its file system has no direct I/O', 'a disk without direct', flag);
    throw openImageError(path, error, exclusive, flag);
  }
  if (lockFile(file.fd, exclusive)) return file;
  const isOurs = countOpen(file.fd) > 1;
  file.close();
  if (isOurs)
    throw imageError(
      path,
      'this machine uses it already, as another disk, as persistent memory or as an overlay',
      'each file once',
      flag,
    );
  throw imageError(
    path,
    exclusive ? 'another machine uses it' : 'another machine writes it',
    exclusive ? 'a disk of its own, an overlay=FILE, or readonly for all' : 'a disk that nobody writes',
    flag,
  );
}

/** Descriptors of this process for the same file. */
function countOpen(fd: number): number {
  const { dev, ino } = fstatSync(fd);
  return readdirSync('/proc/self/fd').filter((name) => {
    try {
      const other = fstatSync(Number(name));
      return other.dev === dev && other.ino === ino;
    } catch {
      return false;
    }
  }).length;
}

/** A block device that nobody else has claimed: no mount, no RAID, no other machine. EBUSY where somebody has. */
function claim(file: OwnedFd, path: string, flags: number): OwnedFd {
  file.close();
  return openFile(path, flags | OPEN.nonBlocking | OPEN.exclusive);
}

/** What to throw for a file that did not open. */
export function openImageError(path: string, error: unknown, written: boolean, flag: string): unknown {
  if (!(error instanceof SyscallError)) return error;
  if (error.errno === ERRNO.EBUSY)
    return imageError(path, 'it is in use', 'a disk that is not mounted, nor part of another', flag);
  const found = FOUND[error.errno] ?? error.message;
  const expected = written ? 'a file that you may write, or readonly' : 'a file that you may read';
  return imageError(path, found, expected, flag);
}

const DISK_FLAG = '--disk';

/** What to throw for a disk that does not do. */
export function imageError(path: string, found: string, expected: string, flag = DISK_FLAG): VoltError {
  return new VoltError('image', `Cannot use ${flag} ${path}: ${found} (expected ${expected})`);
}
