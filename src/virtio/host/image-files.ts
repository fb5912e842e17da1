/**
 * Files of disks: opened, locked, and found again. In the sandbox nothing can be opened for writing any more, so a
 * machine that is made anew after its guest's reset gets the files, and the io_urings, that the first one had.
 */
import { directBlockBytes, fileKind, fileShape, lockFile, type FileShape } from '../../ffi/block-file.ts';
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { duplicateFd, OPEN, openFile, OwnedFd } from '../../ffi/file.ts';
import { createUring, type UringFacts } from '../../ffi/uring.ts';
import { VoltError } from '../../volt-error.ts';

interface OpenDisk {
  readonly file: OwnedFd;
  readonly shape: FileShape;
  ring?: UringFacts;
}

/** Those of machines that live, and those kept for machines to come. By path and flags. */
const inUse = new Map<string, OpenDisk>();
let kept: ReadonlyMap<string, OpenDisk> | undefined;

/** Before the sandbox is entered, with the machine made whose files are to be there later. */
export function keepDisksOpen(): void {
  kept ??= new Map(
    [...inUse].map(([key, { file, shape, ring }]) => [
      key,
      {
        file: duplicateFd(file),
        shape,
        ...(ring ? { ring: { ...ring, fd: duplicateFd({ fd: ring.fd }).fd } } : {}),
      },
    ]),
  );
}

export interface DiskFile extends Disposable {
  readonly fd: number;
  /** As it was when it was opened. */
  readonly shape: FileShape;
  /** An io_uring for it; undefined where the host has none, or forbids it. */
  openRing(): UringFacts | undefined;
}

/** Opens and locks. Throws VoltError 'image'. */
export function openDiskFile(
  path: string,
  flags: number,
  exclusive: boolean,
  direct: boolean,
  flag = DISK_FLAG,
): DiskFile {
  const key = `${flags} ${path}`;
  const known = kept?.get(key);
  const file = known ? duplicateFd(known.file) : openAndLock(path, flags, exclusive, direct, flag);
  const disk: OpenDisk = { file, shape: known?.shape ?? shapeOf(file.fd, direct) };
  inUse.set(key, disk);
  const stack = new DisposableStack();
  stack.use(file);
  stack.defer(() => inUse.delete(key));
  return {
    fd: file.fd,
    shape: disk.shape,
    openRing() {
      const ring = known ? duplicateRing(known.ring) : makeRing();
      if (ring) {
        stack.use(new OwnedFd(ring.fd));
        disk.ring = ring;
      }
      return ring;
    },
    [Symbol.dispose]: () => stack.dispose(),
  };
}

/** A file that is read past the page cache has the blocks of the disk that it lies on. */
function shapeOf(fd: number, direct: boolean): FileShape {
  const shape = fileShape(fd);
  if (shape.kind !== 'file' || !direct) return shape;
  return { ...shape, blockBytes: directBlockBytes(fd) ?? shape.blockBytes };
}

const RING_ENTRIES = 256;

function makeRing(): UringFacts | undefined {
  try {
    return createUring(RING_ENTRIES);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

function duplicateRing(ring: UringFacts | undefined): UringFacts | undefined {
  return ring && { ...ring, fd: duplicateFd({ fd: ring.fd }).fd };
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
      throw unusableDisk(path, 'its file system has no direct I/O', 'a disk without direct', flag);
    throw unopenedDisk(path, error, exclusive, flag);
  }
  if (lockFile(file.fd, exclusive)) return file;
  file.close();
  throw unusableDisk(
    path,
    exclusive ? 'another machine uses it' : 'another machine writes it',
    exclusive ? 'a disk of its own, an overlay=FILE, or readonly for all' : 'a disk that nobody writes',
    flag,
  );
}

/** A block device that nobody else has claimed: no mount, no RAID, no other machine. EBUSY where somebody has. */
function claim(file: OwnedFd, path: string, flags: number): OwnedFd {
  file.close();
  return openFile(path, flags | OPEN.nonBlocking | OPEN.exclusive);
}

/** What to throw for a file that did not open. */
export function unopenedDisk(path: string, error: unknown, written: boolean, flag: string): unknown {
  if (!(error instanceof SyscallError)) return error;
  if (error.errno === ERRNO.EBUSY)
    return unusableDisk(path, 'it is in use', 'a disk that is not mounted, nor part of another', flag);
  const found = FOUND[error.errno] ?? error.message;
  const expected = written ? 'a file that you may write, or readonly' : 'a file that you may read';
  return unusableDisk(path, found, expected, flag);
}

const DISK_FLAG = '--disk';

/** What to throw for a disk that does not do. */
export function unusableDisk(path: string, found: string, expected: string, flag = DISK_FLAG): VoltError {
  return new VoltError('image', `Cannot use ${flag} ${path}: ${found} (expected ${expected})`);
}
