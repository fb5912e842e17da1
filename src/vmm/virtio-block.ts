/** Disks: their files opened on the main thread, and the device made of them on its worker. */
import type { VirtioDevice } from '../devices/virtio/device.ts';
import { BlockDevice, type BlockBackend } from '../devices/virtio/block.ts';
import { blockFacts, type BlockShape } from '../devices/virtio/block-facts.ts';
import { SECTOR_BYTES } from '../devices/virtio/block.regs.ts';
import type { RateLimits } from '../devices/virtio/rate-limiter.ts';
import { fileShape, lockFile, OPEN_DATA_SYNC, OPEN_DIRECT, type FileShape } from '../ffi/block-file.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { OPEN, openFile, type OwnedFd } from '../ffi/file.ts';
import { VoltError } from '../volt-error.ts';
import { FileBackend } from './block-file.ts';
import type { BlockConfig } from './device-config.ts';
import type { DeviceServices } from './device-services.ts';
import type { OpenDevice } from './virtio-machine.ts';

export interface BlockStart {
  readonly kind: 'block';
  readonly shape: BlockShape;
  readonly fd: number;
  readonly limits: RateLimits;
}

/** Throws VoltError 'image' that says what is wrong with the disk's files. */
export function openBlockDevice(config: BlockConfig): OpenDevice {
  const { file, shape: found } = openDisk(config);
  const shape: BlockShape = {
    id: config.id,
    sectors: found.bytes / SECTOR_BYTES,
    readOnly: config.readOnly,
    queues: config.queues,
    blockBytes: found.blockBytes,
    flush: config.cache === 'Writeback',
  };
  return {
    facts: blockFacts(shape),
    start: { kind: 'block', shape, fd: file.fd, limits: config.limits },
    blocks: true,
    close: () => file.close(),
  };
}

export function createBlockDevice(start: BlockStart, services: DeviceServices): VirtioDevice {
  const backend: BlockBackend = new FileBackend(start.fd);
  const glue = {
    now: () => performance.now(),
    after: (delayMs: number, handler: () => void) => services.after(delayMs, handler),
  };
  return new BlockDevice(start.shape, backend, glue, start.limits);
}

function openDisk(config: BlockConfig): { file: OwnedFd; shape: FileShape } {
  const flags =
    (config.readOnly ? OPEN.readOnly : OPEN.readWrite) |
    (config.cache === 'Writethrough' && !config.readOnly ? OPEN_DATA_SYNC : 0) |
    (config.direct ? OPEN_DIRECT : 0);
  const file = openDiskFile(config.path, flags, !config.readOnly, config.direct);
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
