/** File I/O of block devices to and from guest memory, and properties of disk images. */
import { closeSync, fstatSync, fsyncSync, openSync } from 'node:fs';
import { getU64, putU64, viewOf } from '../binary/bytes.ts';
import { ERRNO } from './errno.ts';
import { ioLibc } from './io-libc.ts';
import { addressOf, asPointer, checked, lastErrno, libc, type HostPointer } from './libc.ts';
import { MAP, Mapping, PROT } from './mapping.ts';

export const OPEN_DIRECT = 0o40000;
export const OPEN_DATA_SYNC = 0o10000;

const LOCK_SHARED = 1;
const LOCK_EXCLUSIVE = 2;
const LOCK_NON_BLOCKING = 4;

const FALLOCATE = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;

/** ioctl numbers of block devices. (Linux include/uapi/linux/fs.h) */
const BLKGETSIZE64 = 0x8008_1272;
const BLKSSZGET = 0x1268;
const BLKROGET = 0x125e;
const BLKDISCARD = 0x1277;

/** Logical block sizes of disks, in bytes. */
const BLOCK_SIZES = [512, 1024, 2048, 4096] as const;
/** Linux refuses disks with larger blocks. */
export const LARGEST_BLOCK_BYTES = 4096;

/**
 * preadv(2) or pwritev(2) of `count` iovecs from iovec `first` on, four words each, at byte `offset` of the
 * file. Returns the number of bytes transferred, or -errno.
 * SAFETY: the caller has checked that every iovec lies in mapped memory, which stays mapped during the call.
 */
export function transferVectors(
  write: boolean,
  fd: number,
  iovecs: Uint32Array,
  first: number,
  count: number,
  offset: number,
): number {
  const io = ioLibc();
  const vectors = first === 0 ? iovecs : iovecs.subarray(first * 4);
  for (;;) {
    const done = Number(
      write ? io.pwritev(fd, vectors, count, offset) : io.preadv(fd, vectors, count, offset),
    );
    if (done >= 0) return done;
    const errno = lastErrno();
    if (errno !== ERRNO.EINTR) return -errno;
  }
}

/**
 * pread(2) or pwrite(2) of `bytes` bytes at host address `host`. Returns the number of bytes transferred, or
 * -errno.
 * SAFETY: the caller has checked that the range is mapped, and it stays mapped during the call.
 */
export function transfer(write: boolean, fd: number, host: number, bytes: number, offset: number): number {
  const io = ioLibc();
  const pointer = asPointer(host as HostPointer);
  for (;;) {
    const done = Number(write ? io.pwrite(fd, pointer, bytes, offset) : io.pread(fd, pointer, bytes, offset));
    if (done >= 0) return done;
    const errno = lastErrno();
    if (errno !== ERRNO.EINTR) return -errno;
  }
}

/** Writes all of `bytes` by pwrite(2). Returns 0 or errno. */
export function writeAllAt(fd: number, bytes: Uint8Array, offset: number): number {
  for (let done = 0; done < bytes.length;) {
    const rest = bytes.subarray(done);
    const count = Number(ioLibc().pwrite(fd, rest, rest.length, offset + done));
    if (count > 0) done += count;
    else if (count === 0) return ERRNO.EIO;
    else if (lastErrno() !== ERRNO.EINTR) return lastErrno();
  }
  return 0;
}

/** fdatasync(2). Returns 0 or errno. */
export function flushFile(fd: number): number {
  return ioLibc().fdatasync(fd) < 0 ? lastErrno() : 0;
}

/** Deallocates a range of the file, which then reads as zeroes. Returns 0 or errno. (fallocate(2)) */
export function punchHole(fd: number, offset: number, bytes: number): number {
  const mode = FALLOCATE.punchHole | FALLOCATE.keepSize;
  return ioLibc().fallocate(fd, mode, offset, bytes) < 0 ? lastErrno() : 0;
}

/** BLKDISCARD: discards a range of a block device. Returns 0 or errno. */
export function discardBlocks(fd: number, offset: number, bytes: number): number {
  // SAFETY: the kernel reads two u64, start and length in bytes, during the call.
  const range = new Uint8Array(16);
  putU64(viewOf(range), 0, offset);
  putU64(viewOf(range), 8, bytes);
  return libc.ioctl(fd, BLKDISCARD, range) < 0 ? lastErrno() : 0;
}

/** Zeroes a range of the file and keeps its blocks allocated. Returns 0 or errno. (fallocate(2)) */
export function zeroRange(fd: number, offset: number, bytes: number): number {
  const mode = FALLOCATE.zeroRange | FALLOCATE.keepSize;
  return ioLibc().fallocate(fd, mode, offset, bytes) < 0 ? lastErrno() : 0;
}

/** Allocates blocks for the file's first `bytes` bytes, holes included. Returns 0 or errno. (fallocate(2)) */
export function allocateBlocks(fd: number, bytes: number): number {
  return ioLibc().fallocate(fd, 0, 0, bytes) < 0 ? lastErrno() : 0;
}

/** Sets the file's length in bytes; new bytes are a hole. Returns 0 or errno. (ftruncate(2)) */
export function setFileLength(fd: number, bytes: number): number {
  return ioLibc().ftruncate(fd, bytes) < 0 ? lastErrno() : 0;
}

/** Last modification time of an open file, in whole milliseconds since 1970. Throws for a bad descriptor. */
export function readMtimeMs(fd: number): number {
  return Math.floor(fstatSync(fd).mtimeMs);
}

/** Takes a flock(2) lock without blocking. Returns false when another open file holds a conflicting lock. */
export function lockFile(fd: number, exclusive: boolean): boolean {
  return ioLibc().flock(fd, (exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED) | LOCK_NON_BLOCKING) === 0;
}

export interface OpenFileInfo {
  readonly kind: 'file' | 'block-device' | 'other';
  readonly bytes: number;
  /** Logical block size of a block device, the unit of direct I/O; 512 for a file. */
  readonly blockBytes: number;
  /** The block device is read-only (BLKROGET), however it was opened. */
  readonly readOnly: boolean;
}

/** Throws for a bad descriptor. */
export function fileKind(fd: number): OpenFileInfo['kind'] {
  const stat = fstatSync(fd);
  return stat.isFile() ? 'file' : stat.isBlockDevice() ? 'block-device' : 'other';
}

/** Kind, size and block size of an open file. Throws SyscallError. */
export function statFile(fd: number): OpenFileInfo {
  const stat = fstatSync(fd);
  if (stat.isFile()) return { kind: 'file', bytes: stat.size, blockBytes: 512, readOnly: false };
  if (!stat.isBlockDevice()) return { kind: 'other', bytes: 0, blockBytes: 512, readOnly: false };
  // SAFETY: the kernel writes one u64 during the call.
  const size = new Uint8Array(8);
  checked(libc.ioctl(fd, BLKGETSIZE64, size), 'BLKGETSIZE64');
  return {
    kind: 'block-device',
    bytes: getU64(viewOf(size), 0),
    blockBytes: ioctlU32(fd, BLKSSZGET, 'BLKSSZGET'),
    readOnly: ioctlU32(fd, BLKROGET, 'BLKROGET') !== 0,
  };
}

function ioctlU32(fd: number, request: number, name: string): number {
  // SAFETY: the kernel writes one int during the call.
  const answer = new Uint8Array(4);
  checked(libc.ioctl(fd, request, answer), name);
  return viewOf(answer).getUint32(0, true);
}

/** `struct statx` (linux/stat.h), and flags of statx(2). */
const STATX = { mask: 0x00, directOffsetAlign: 0x9c, size: 0x100 } as const;
const STATX_DIOALIGN = 0x2000;
const AT_EMPTY_PATH = 0x1000;
const SYS_STATX = 332;

/**
 * Offset alignment of direct I/O on a file that was opened with O_DIRECT, in bytes (STATX_DIOALIGN). Returns
 * undefined when the host does not report it and no test read succeeds.
 */
export function directBlockBytes(fd: number): number | undefined {
  // SAFETY: the kernel reads an empty path and writes one struct statx; both arrays outlive the call.
  const [empty, result] = [new Uint8Array(1), new Uint8Array(STATX.size)];
  const view = viewOf(result);
  const failed =
    libc.syscall(SYS_STATX, fd, addressOf(empty), AT_EMPTY_PATH, STATX_DIOALIGN, addressOf(result), 0) < 0;
  const reported = !failed && (view.getUint32(STATX.mask, true) & STATX_DIOALIGN) !== 0;
  const align = reported ? view.getUint32(STATX.directOffsetAlign, true) : 0;
  return align > 0 ? align : tryDirectReads(fd);
}

/** For kernels before 6.1. Reads of a hole succeed at any alignment, so the result can be too small. */
function tryDirectReads(fd: number): number | undefined {
  const [prot, flags] = [PROT.read | PROT.write, MAP.private | MAP.anonymous];
  using page = new Mapping({ bytes: LARGEST_BLOCK_BYTES, prot, flags, what: 'a test of direct I/O' });
  return BLOCK_SIZES.find((bytes) => transfer(false, fd, page.address, bytes, 0) !== -ERRNO.EINVAL);
}

/** fsync(2) of a directory, so that a file created in it survives a crash. Throws. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
