/** Opens and locks the image files and block devices of disks and persistent memory. */
import { fstatSync, readdirSync } from 'node:fs';
import { directBlockBytes, fileKind, statFile, lockFile, type OpenFileInfo } from '../../ffi/block-file.ts';
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { OPEN, openFile, OwnedFd, readAt } from '../../ffi/file.ts';
import { describePathProblem } from '../../ffi/stat.ts';
import { createUring, type UringParams } from '../../ffi/uring.ts';
import { VoltError } from '../../volt-error.ts';
import { IMAGE_HEAD_BYTES, recogniseContainer } from './image-format.ts';

export interface ImageFile extends Disposable {
  readonly fd: number;
  /** Size and kind when it was opened. */
  readonly shape: OpenFileInfo;
}

/** Against all others, only against writers, or not at all. */
export type ImageLock = 'exclusive' | 'shared' | 'none';

/**
 * Opens and locks an image. `flags` are those of open(2); `direct` means O_DIRECT; `flag` names the image in
 * messages. Throws VoltError 'image'.
 */
export function openImageFile(
  path: string,
  flags: number,
  lock: ImageLock,
  direct: boolean,
  flag = DISK_FLAG,
): ImageFile {
  const stack = new DisposableStack();
  const file = stack.use(openAndLock(path, flags, lock, direct, flag));
  return {
    fd: file.fd,
    shape: shapeOf(file.fd, direct),
    [Symbol.dispose]: () => stack.dispose(),
  };
}

/** With O_DIRECT, the logical block size of the disk under the file system counts. */
function shapeOf(fd: number, direct: boolean): OpenFileInfo {
  const shape = statFile(fd);
  if (shape.kind !== 'file' || !direct) return shape;
  return { ...shape, blockBytes: directBlockBytes(fd) ?? shape.blockBytes };
}

/** Throws VoltError 'image' for an image in a container format: the guest would see the container. */
export function checkRaw({ fd, shape }: ImageFile, path: string, flag = DISK_FLAG): void {
  if (shape.kind === 'other') return;
  const head = new Uint8Array(IMAGE_HEAD_BYTES);
  // A new open file description without O_DIRECT, which would require aligned reads.
  using file = openFile(`/proc/self/fd/${fd}`, OPEN.readOnly);
  readAt(file.fd, head, 0);
  const container = recogniseContainer(head);
  if (!container) return;
  const found = `it is a ${container.name} file, not a raw image`;
  const fix = `${container.advice}, or add format=raw to give the guest the file as it is`;
  throw imageFileError(path, found, { fix }, flag);
}

const RING_ENTRIES = 256;

/** Creates an io_uring, which `stack` owns; undefined if the host does not support or allow it. */
export function openRing(stack: DisposableStack): UringParams | undefined {
  try {
    const ring = createUring(RING_ENTRIES);
    stack.use(new OwnedFd(ring.fd));
    return ring;
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

function openAndLock(path: string, flags: number, lock: ImageLock, direct: boolean, flag: string): OwnedFd {
  const exclusive = lock === 'exclusive';
  let file: OwnedFd;
  try {
    // Opening a FIFO without a writer would block.
    file = openFile(path, flags | OPEN.nonBlocking);
    if (exclusive && fileKind(file.fd) === 'block-device') file = reopenExclusively(file, path, flags);
  } catch (error) {
    if (direct && error instanceof SyscallError && error.errno === ERRNO.EINVAL)
      throw imageFileError(path, 'its file system does not support direct I/O', { fix: 'omit direct' }, flag);
    throw openImageError(path, error, (flags & OPEN.readWrite) !== 0, flag);
  }
  if (lock === 'none' || lockFile(file.fd, exclusive)) return file;
  const isOurs = countDescriptors(file.fd) > 1;
  file.close();
  if (isOurs)
    throw imageFileError(
      path,
      'this machine already uses it as another disk, as persistent memory or as an overlay',
      { fix: 'give each file once' },
      flag,
    );
  if (exclusive)
    throw imageFileError(
      path,
      'another machine uses it',
      { fix: 'use a disk that no other machine uses, add overlay=FILE, or give it to all with readonly' },
      flag,
    );
  const fix = 'use a disk that no other machine writes to';
  throw imageFileError(path, 'another machine writes to it', { fix }, flag);
}

/** Counts the file descriptors of this process that refer to the same file. */
function countDescriptors(fd: number): number {
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

/**
 * Reopens a block device with O_EXCL, which fails with EBUSY if a mount, an array or another program has
 * claimed it. (open(2))
 */
function reopenExclusively(file: OwnedFd, path: string, flags: number): OwnedFd {
  file.close();
  return openFile(path, flags | OPEN.nonBlocking | OPEN.exclusive);
}

/** The error for a file that could not be opened: VoltError 'image' for a SyscallError, otherwise `error`. */
export function openImageError(path: string, error: unknown, written: boolean, flag: string): unknown {
  if (!(error instanceof SyscallError)) return error;
  if (error.errno === ERRNO.EBUSY)
    return imageFileError(
      path,
      'it is in use',
      { fix: 'unmount it, or remove it from the array or volume that uses it' },
      flag,
    );
  const found = describePathProblem(error.code) ?? error.message;
  const expected = written ? 'a file that you may write, or readonly' : 'a file that you may read';
  return imageFileError(path, found, { expected }, flag);
}

const DISK_FLAG = '--disk';

/**
 * "Cannot use <flag> <path>: <found> (expected <expected>)", or "Cannot use <flag> <path>: <found>; <fix>"
 */
export function imageFileError(
  path: string,
  found: string,
  advice: { readonly expected: string } | { readonly fix: string },
  flag = DISK_FLAG,
): VoltError {
  const end = 'fix' in advice ? `; ${advice.fix}` : ` (expected ${advice.expected})`;
  return new VoltError('image', `Cannot use ${flag} ${path}: ${found}${end}`);
}
