/** Reading, writing and flushing files for block devices, with guest memory as source and target. */
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

/** Sizes of logical blocks that disks have. */
const BLOCK_SIZES = [512, 1024, 2048, 4096] as const;
const LARGEST_BLOCK_BYTES = 4096;

/**
 * preadv or pwritev of `count` iovecs at `iovecs[first]`. Returns bytes done, or -errno.
 * SAFETY: the caller has checked that every iovec lies in mapped memory that stays mapped.
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

/** pread or pwrite at a host address. Returns bytes done, or -errno. SAFETY: as above. */
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

/** pwrite of all of `bytes`. Returns 0 or errno. */
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

/** Gives a range back to the host; it reads as zeroes then. Returns 0 or errno. */
export function punchHole(fd: number, offset: number, bytes: number): number {
  const mode = FALLOCATE.punchHole | FALLOCATE.keepSize;
  return ioLibc().fallocate(fd, mode, offset, bytes) < 0 ? lastErrno() : 0;
}

/** Tells a block device that nobody needs a range any more. Returns 0 or errno. */
export function discardBlocks(fd: number, offset: number, bytes: number): number {
  const range = new Uint8Array(16);
  putU64(viewOf(range), 0, offset);
  putU64(viewOf(range), 8, bytes);
  return libc.ioctl(fd, BLKDISCARD, range) < 0 ? lastErrno() : 0;
}

/** Makes a range read as zeroes and keeps its blocks. Returns 0 or errno. */
export function zeroRange(fd: number, offset: number, bytes: number): number {
  const mode = FALLOCATE.zeroRange | FALLOCATE.keepSize;
  return ioLibc().fallocate(fd, mode, offset, bytes) < 0 ? lastErrno() : 0;
}

/** Has the file system keep room for all of a file's first `bytes` bytes, holes too. Returns 0 or errno. */
export function allocateBlocks(fd: number, bytes: number): number {
  return ioLibc().fallocate(fd, 0, 0, bytes) < 0 ? lastErrno() : 0;
}

/** Sets a file's length; what is new reads as zeroes and takes no room. Returns 0 or errno. */
export function setFileLength(fd: number, bytes: number): number {
  return ioLibc().ftruncate(fd, bytes) < 0 ? lastErrno() : 0;
}

/** When the content of an open file was changed last, in whole milliseconds since 1970. */
export function readMtimeMs(fd: number): number {
  return Math.floor(fstatSync(fd).mtimeMs);
}

/** Locks the open file against others, without waiting: false when somebody has it. */
export function lockFile(fd: number, exclusive: boolean): boolean {
  return ioLibc().flock(fd, (exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED) | LOCK_NON_BLOCKING) === 0;
}

export interface OpenFileInfo {
  readonly kind: 'file' | 'block-device' | 'other';
  readonly bytes: number;
  /** Of a block device its logical block size, the smallest unit of direct I/O; of a file 512. */
  readonly blockBytes: number;
  /** A block device that takes no writes, however it was opened. */
  readonly readOnly: boolean;
}

export function fileKind(fd: number): OpenFileInfo['kind'] {
  const stat = fstatSync(fd);
  return stat.isFile() ? 'file' : stat.isBlockDevice() ? 'block-device' : 'other';
}

/** What an open file is and how large. Throws SyscallError. */
export function statFile(fd: number): OpenFileInfo {
  const stat = fstatSync(fd);
  if (stat.isFile()) return { kind: 'file', bytes: stat.size, blockBytes: 512, readOnly: false };
  if (!stat.isBlockDevice()) return { kind: 'other', bytes: 0, blockBytes: 512, readOnly: false };
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
  const answer = new Uint8Array(4);
  checked(libc.ioctl(fd, request, answer), name);
  return viewOf(answer).getUint32(0, true);
}

/** (statx(2)) */
const STATX = { mask: 0x00, directOffsetAlign: 0x9c, size: 0x100 } as const;
const STATX_DIOALIGN = 0x2000;
const AT_EMPTY_PATH = 0x1000;
const SYS_STATX = 332;

/**
 * The smallest unit in which a file that was opened with O_DIRECT is read and written: that of the disk under its file
 * system. undefined: the host does not say.
 */
export function directBlockBytes(fd: number): number | undefined {
  const [empty, result] = [new Uint8Array(1), new Uint8Array(STATX.size)];
  const view = viewOf(result);
  const failed =
    libc.syscall(SYS_STATX, fd, addressOf(empty), AT_EMPTY_PATH, STATX_DIOALIGN, addressOf(result), 0) < 0;
  const told = !failed && (view.getUint32(STATX.mask, true) & STATX_DIOALIGN) !== 0;
  const align = told ? view.getUint32(STATX.directOffsetAlign, true) : 0;
  return align > 0 ? align : tryDirectReads(fd);
}

/** For kernels before 6.1. A hole of the file may be read in any unit, so this sees too little at times. */
function tryDirectReads(fd: number): number | undefined {
  const [prot, flags] = [PROT.read | PROT.write, MAP.private | MAP.anonymous];
  using page = new Mapping({ bytes: LARGEST_BLOCK_BYTES, prot, flags, what: 'a try of direct I/O' });
  return BLOCK_SIZES.find((bytes) => transfer(false, fd, page.address, bytes, 0) !== -ERRNO.EINVAL);
}

/** Makes the entries of a directory safe, after a file was made in it. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
