/** Disks: their files opened on the main thread, and the device made of them on its worker. */
import { dirname } from 'node:path';
import type { VirtioDevice } from '../transport/device.ts';
import { BlockDevice } from './device.ts';
import { blockFacts, type BlockShape } from './facts.ts';
import { SECTOR_BYTES } from './regs.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import {
  fileShape,
  flushFile,
  growFile,
  lastChangeMs,
  OPEN_DATA_SYNC,
  OPEN_DIRECT,
  syncDirectory,
  writeAllAt,
  type FileShape,
} from '../../ffi/block-file.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { errnoName } from '../../ffi/errno.ts';
import { OPEN, readAt } from '../../ffi/file.ts';
import { Uring, type UringFacts } from '../../ffi/uring.ts';
import { VoltError } from '../../volt-error.ts';
import { releaseBounce } from './bounce.ts';
import { FileBackend, type FileTraits } from './file-backend.ts';
import { OverlayBackend } from './overlay-backend.ts';
import { UringBackend } from './uring-backend.ts';
import type { BlockConfig } from '../host/spec-registry.ts';
import { openDiskFile, unusableDisk, type DiskFile } from '../host/image-files.ts';
import type { DeviceServices } from '../host/services.ts';
import {
  checkOverlay,
  encodeOverlayHeader,
  OVERLAY_HEADER,
  overlayShape,
  type OverlayShape,
} from './overlay-format.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface BlockStart {
  readonly kind: 'block';
  readonly shape: BlockShape;
  /** The file, or the base image of `overlay`. */
  readonly fd: number;
  readonly overlay:
    { readonly fd: number; readonly shape: OverlayShape; readonly writeThrough: boolean } | undefined;
  /** `Cached`: by io_uring, but for writes, which the page cache takes at once. */
  readonly engine: 'Sync' | 'Async' | 'Cached';
  /** undefined: without io_uring. */
  readonly ring: UringFacts | undefined;
  readonly traits: FileTraits;
  readonly limits: RateLimits;
}

/** Throws VoltError 'image' that says what is wrong with the disk's files. */
export function openBlockDevice(config: BlockConfig): OpenDevice {
  checkTogether(config);
  using stack = new DisposableStack();
  const file = stack.use(openDisk(config));
  const found = file.shape;
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
  const engine = config.engine ?? (config.direct || config.cache === 'Writethrough' ? 'Async' : 'Cached');
  const start: BlockStart = {
    kind: 'block',
    shape,
    fd: file.fd,
    overlay: overlay && {
      fd: overlay.file.fd,
      shape: overlay.shape,
      writeThrough: config.cache === 'Writethrough',
    },
    engine,
    ring: overlay || engine === 'Sync' ? undefined : file.openRing(),
    traits: { direct: config.direct, device: found.kind === 'block-device' },
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
  services.atEnd(releaseBounce);
  if (overlay) {
    const files = {
      baseFd: fd,
      overlayFd: overlay.fd,
      shape: overlay.shape,
      writeThrough: overlay.writeThrough,
    };
    return new BlockDevice(shape, new OverlayBackend(files), glue, limits);
  }
  if (!start.ring) return new BlockDevice(shape, new FileBackend(fd, start.traits), glue, limits);
  const options = { ...start.traits, writeAtOnce: start.engine === 'Cached' };
  const backend = new UringBackend(fd, new Uring(start.ring), options);
  const device = new BlockDevice(shape, backend, glue, limits);
  services.atEnd(() => backend[Symbol.dispose]());
  services.watch(backend.ringFd, EPOLL.in | EPOLL.edge, () => {
    backend.collect();
    device.settleLater();
  });
  return device;
}

/** Linux refuses disks with larger ones. */
const LARGEST_BLOCK_BYTES = 4096;

/** What makes no sense in one disk. */
function checkTogether({ path, overlay, readOnly, direct }: BlockConfig): void {
  if (overlay !== undefined && readOnly)
    throw unusableDisk(
      path,
      'readonly and overlay are both given',
      'one of them: an overlay is there to be written',
    );
  if (overlay !== undefined && direct)
    throw unusableDisk(
      path,
      'direct and overlay are both given',
      'one of them: an overlay copies parts of blocks',
    );
}

function openDisk(config: BlockConfig): DiskFile {
  const written = !config.readOnly && config.overlay === undefined;
  const flags =
    (written ? OPEN.readWrite : OPEN.readOnly) |
    (config.cache === 'Writethrough' && written ? OPEN_DATA_SYNC : 0) |
    (config.direct ? OPEN_DIRECT : 0);
  const file = openDiskFile(config.path, flags, written, config.direct);
  try {
    checkShape(config, file.shape, written);
    return file;
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

function checkShape({ path }: BlockConfig, shape: FileShape, written: boolean): void {
  const { kind, bytes, blockBytes, readOnly } = shape;
  if (kind === 'other')
    throw unusableDisk(path, 'it is neither a file nor a block device', 'a disk image or a block device');
  if (readOnly && written)
    throw unusableDisk(path, 'this block device takes no writes', 'readonly, or an overlay=FILE');
  if (blockBytes > LARGEST_BLOCK_BYTES)
    throw unusableDisk(path, `it has blocks of ${blockBytes} bytes`, `at most ${LARGEST_BLOCK_BYTES}`);
  if (bytes === 0 || bytes % blockBytes !== 0) {
    const what = blockBytes === SECTOR_BYTES ? 'sectors' : 'blocks';
    throw unusableDisk(path, `it has ${bytes} bytes`, `whole ${what} of ${blockBytes} bytes, at least one`);
  }
}

/** Opens an overlay, or makes it where there is no file yet. */
function openOverlay(
  path: string,
  baseFd: number,
  baseBytes: number,
): { file: DiskFile; shape: OverlayShape } {
  const shape = overlayShape(baseBytes, lastChangeMs(baseFd));
  const file = openDiskFile(path, OPEN.readWrite | OPEN.create, true, false);
  try {
    if (file.shape.kind !== 'file') throw unusableDisk(path, 'as an overlay it is no file', 'a file');
    if (fileShape(file.fd).bytes === 0) createOverlay(file.fd, path, shape);
    const header = new Uint8Array(OVERLAY_HEADER.size);
    readAt(file.fd, header, 0);
    const problem = checkOverlay(header, fileShape(file.fd).bytes, shape);
    if (problem !== undefined) throw new VoltError('image', `Cannot use overlay=${path}: ${problem}`);
    return { file, shape };
  } catch (error) {
    file[Symbol.dispose]();
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
