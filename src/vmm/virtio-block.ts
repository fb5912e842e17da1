/** Disks: their files opened on the main thread, and the device made of them on its worker. */
import { dirname } from 'node:path';
import type { VirtioDevice } from '../devices/virtio/device.ts';
import { BlockDevice } from '../devices/virtio/block.ts';
import { blockFacts, type BlockShape } from '../devices/virtio/block-facts.ts';
import { SECTOR_BYTES } from '../devices/virtio/block.regs.ts';
import type { RateLimits } from '../devices/virtio/rate-limiter.ts';
import {
  fileShape,
  flushFile,
  growFile,
  lastChangeMs,
  lockFile,
  OPEN_DATA_SYNC,
  OPEN_DIRECT,
  syncDirectory,
  writeAllAt,
  type FileShape,
} from '../ffi/block-file.ts';
import { EPOLL } from '../ffi/epoll.ts';
import { ERRNO, errnoName, SyscallError } from '../ffi/errno.ts';
import { OPEN, openFile, readAt, type OwnedFd } from '../ffi/file.ts';
import { VoltError } from '../volt-error.ts';
import { FileBackend } from './block-file.ts';
import { OverlayBackend } from './block-overlay.ts';
import { UringBackend, type UringOptions } from './block-uring.ts';
import type { BlockConfig } from './device-config.ts';
import type { DeviceServices } from './device-services.ts';
import {
  checkOverlay,
  encodeOverlayHeader,
  OVERLAY_HEADER,
  overlayShape,
  type OverlayShape,
} from './overlay-format.ts';
import type { OpenDevice } from './virtio-machine.ts';

export interface BlockStart {
  readonly kind: 'block';
  readonly shape: BlockShape;
  /** The file, or the base image of `overlay`. */
  readonly fd: number;
  readonly overlay:
    { readonly fd: number; readonly shape: OverlayShape; readonly writeThrough: boolean } | undefined;
  /** `Cached`: by io_uring, but for writes, which the page cache takes at once. */
  readonly engine: 'Sync' | 'Async' | 'Cached';
  readonly direct: boolean;
  readonly limits: RateLimits;
}

/** Throws VoltError 'image' that says what is wrong with the disk's files. */
export function openBlockDevice(config: BlockConfig): OpenDevice {
  checkTogether(config);
  using stack = new DisposableStack();
  const { file, shape: found } = openDisk(config);
  stack.use(file);
  const overlay =
    config.overlay === undefined ? undefined : openOverlay(config.overlay, file.fd, found.bytes);
  if (overlay) stack.use(overlay.file);
  const shape: BlockShape = {
    id: config.id,
    sectors: found.bytes / SECTOR_BYTES,
    readOnly: config.readOnly,
    queues: config.queues,
    blockBytes: found.blockBytes,
    flush: config.cache === 'Writeback',
  };
  const start: BlockStart = {
    kind: 'block',
    shape,
    fd: file.fd,
    overlay: overlay && {
      fd: overlay.file.fd,
      shape: overlay.shape,
      writeThrough: config.cache === 'Writethrough',
    },
    engine: config.engine ?? (config.direct || config.cache === 'Writethrough' ? 'Async' : 'Cached'),
    direct: config.direct,
    limits: config.limits,
  };
  const files = stack.move();
  return { facts: blockFacts(shape), start, blocks: true, close: () => files.dispose() };
}

export function createBlockDevice(start: BlockStart, services: DeviceServices): VirtioDevice {
  const glue = {
    now: () => performance.now(),
    after: (delayMs: number, handler: () => void) => services.after(delayMs, handler),
  };
  const { fd, overlay, shape, limits } = start;
  if (overlay) {
    const files = {
      baseFd: fd,
      overlayFd: overlay.fd,
      shape: overlay.shape,
      writeThrough: overlay.writeThrough,
    };
    return new BlockDevice(shape, new OverlayBackend(files), glue, limits);
  }
  const backend =
    start.engine === 'Sync'
      ? undefined
      : openUring(fd, { writeAtOnce: start.engine === 'Cached', direct: start.direct });
  if (!backend) return new BlockDevice(shape, new FileBackend(fd, start.direct), glue, limits);
  const device = new BlockDevice(shape, backend, glue, limits);
  services.watch(backend.ringFd, EPOLL.in | EPOLL.edge, () => {
    backend.collect();
    device.settleLater();
  });
  return device;
}

/** undefined where the host has no io_uring, or forbids it: then blocking calls do. */
function openUring(fd: number, options: UringOptions): UringBackend | undefined {
  try {
    return new UringBackend(fd, options);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** What makes no sense in one disk. */
function checkTogether({ path, overlay, readOnly, direct }: BlockConfig): void {
  if (overlay !== undefined && readOnly)
    throw unusable(
      path,
      'readonly and overlay are both given',
      'one of them: an overlay is there to be written',
    );
  if (overlay !== undefined && direct)
    throw unusable(
      path,
      'direct and overlay are both given',
      'one of them: an overlay copies parts of blocks',
    );
}

function openDisk(config: BlockConfig): { file: OwnedFd; shape: FileShape } {
  const written = !config.readOnly && config.overlay === undefined;
  const flags =
    (written ? OPEN.readWrite : OPEN.readOnly) |
    (config.cache === 'Writethrough' && written ? OPEN_DATA_SYNC : 0) |
    (config.direct ? OPEN_DIRECT : 0);
  const file = openDiskFile(config.path, flags, written, config.direct);
  try {
    const shape = fileShape(file.fd);
    if (shape.kind === 'other') {
      throw unusable(
        config.path,
        'it is neither a file nor a block device',
        'a disk image or a block device',
      );
    }
    if (shape.bytes === 0 || shape.bytes % SECTOR_BYTES !== 0) {
      throw unusable(config.path, `it has ${shape.bytes} bytes`, 'whole sectors of 512 bytes, at least one');
    }
    return { file, shape };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Opens an overlay, or makes it where there is no file yet. */
function openOverlay(
  path: string,
  baseFd: number,
  baseBytes: number,
): { file: OwnedFd; shape: OverlayShape } {
  const shape = overlayShape(baseBytes, lastChangeMs(baseFd));
  const file = openDiskFile(path, OPEN.readWrite | OPEN.create, true, false);
  try {
    const found = fileShape(file.fd);
    if (found.kind !== 'file') throw unusable(path, 'as an overlay it is no file', 'a file');
    if (found.bytes === 0) createOverlay(file.fd, path, shape);
    const header = new Uint8Array(OVERLAY_HEADER.size);
    readAt(file.fd, header, 0);
    const problem = checkOverlay(header, fileShape(file.fd).bytes, shape);
    if (problem !== undefined) throw new VoltError('image', `Cannot use overlay=${path}: ${problem}`);
    return { file, shape };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The header comes last: a file that a crash left without it is refused, and not taken for an empty overlay. */
function createOverlay(fd: number, path: string, shape: OverlayShape): void {
  const failed =
    growFile(fd, shape.fileBytes) ||
    flushFile(fd) ||
    writeAllAt(fd, encodeOverlayHeader(shape), 0) ||
    flushFile(fd);
  if (failed)
    throw new VoltError('host', `Cannot make overlay=${path}: ${errnoName(failed)} (expected room for it)`);
  syncDirectory(dirname(path));
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
  [ERRNO.EBUSY]: 'it is in use',
  [ERRNO.ENXIO]: 'there is no such device',
};

/** Opens and locks. Throws VoltError 'image'. */
export function openDiskFile(path: string, flags: number, exclusive: boolean, direct: boolean): OwnedFd {
  let file: OwnedFd;
  try {
    // A FIFO without a writer must not hold us up.
    file = openFile(path, flags | OPEN.nonBlocking);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    if (direct && error.errno === ERRNO.EINVAL)
      throw unusable(path, 'its file system has no direct I/O', 'a disk without direct');
    const found = FOUND[error.errno] ?? error.message;
    throw unusable(
      path,
      found,
      exclusive ? 'a file that you may write, or readonly' : 'a file that you may read',
    );
  }
  if (lockFile(file.fd, exclusive)) return file;
  file.close();
  throw unusable(
    path,
    exclusive ? 'another machine uses it' : 'another machine writes it',
    exclusive ? 'a disk of its own, an overlay=FILE, or readonly for all' : 'a disk that nobody writes',
  );
}

function unusable(path: string, found: string, expected: string): VoltError {
  return new VoltError('image', `Cannot use --disk ${path}: ${found} (expected ${expected})`);
}
