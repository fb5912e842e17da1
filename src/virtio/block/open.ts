/** Opens a disk's image, and its overlay if it has one. */
import { dirname } from 'node:path';
import {
  statFile,
  flushFile,
  LARGEST_BLOCK_BYTES,
  setFileLength,
  readMtimeMs,
  OPEN_DATA_SYNC,
  OPEN_DIRECT,
  syncDirectory,
  writeAllAt,
  type OpenFileInfo,
} from '../../ffi/block-file.ts';
import { errnoName } from '../../ffi/errno.ts';
import { OPEN, readAt, type OwnedFd } from '../../ffi/file.ts';
import { VoltError } from '../../volt-error.ts';
import {
  checkRaw,
  imageFileError,
  openImageFile,
  openRing,
  type ImageFile,
  type ImageLock,
} from '../host/image-files.ts';
import type { OpenContext, OpenDevice } from '../host/open-device.ts';
import { openBackEnd } from './back-end/open.ts';
import type { BackEndStart } from './back-end/serve.ts';
import { DiskControl } from './control.ts';
import { describeBlock, type BlockShape } from './description.ts';
import {
  checkOverlay,
  encodeOverlayHeader,
  OVERLAY_HEADER,
  overlayShape,
  type OverlayShape,
} from './overlay-format.ts';
import { SECTOR_BYTES } from './regs.ts';
import type { BlockStart } from './serve.ts';
import type { BlockConfig } from './spec.ts';

/** How a disk gets its file, and whether it may have an io_uring: in the sandbox none can be created. */
interface DiskOpening {
  readonly open?: (config: BlockConfig) => ImageFile;
  readonly ring?: boolean;
}

/** Throws VoltError 'image' when the disk's files cannot be used. */
export function openBlock(
  config: BlockConfig,
  { ramEnd }: Pick<OpenContext, 'ramEnd'>,
  { open = openDisk, ring = true }: DiskOpening = {},
): OpenDevice<BlockStart | BackEndStart> {
  if (config.backEnd) return openBackEnd(config, ramEnd);
  checkSettings(config);
  using stack = new DisposableStack();
  const disk = stack.use(new DiskControl(config, open));
  const { file } = disk;
  const found = file.shape;
  const overlay =
    config.overlay === undefined ? undefined : openOverlay(config.overlay, file.fd, found.bytes);
  if (overlay) stack.use(overlay.file);
  const shape: BlockShape = {
    id: config.id,
    sectors: Math.floor(found.bytes / SECTOR_BYTES),
    readOnly: config.readOnly,
    queues: config.queues,
    blockBytes: found.blockBytes,
    flush: config.cache === 'Writeback',
  };
  const engine = config.engine ?? (config.direct || config.cache === 'Writethrough' ? 'Async' : 'Cached');
  const start: BlockStart = {
    link: 'file',
    shape,
    fd: file.fd,
    overlay: overlay && {
      fd: overlay.file.fd,
      shape: overlay.shape,
      writeThrough: config.cache === 'Writethrough',
    },
    engine,
    ring: overlay || engine === 'Sync' || !ring ? undefined : openRing(stack),
    traits: { direct: config.direct, device: found.kind === 'block-device' },
    limits: config.limits,
  };
  const files = stack.move();
  return { description: describeBlock(shape), start, blocks: true, disk, close: () => files.dispose() };
}

/** Refuses settings that exclude each other. */
function checkSettings({ path, overlay, readOnly, direct }: BlockConfig): void {
  if (overlay !== undefined && readOnly)
    throw imageFileError(path, 'readonly and overlay are both given', {
      fix: 'omit one of them: an overlay is always writable',
    });
  if (overlay !== undefined && direct)
    throw imageFileError(path, 'direct and overlay are both given', {
      fix: 'omit one of them: an overlay copies parts of blocks, and direct I/O transfers whole ones',
    });
}

/** The disk of a file that another process has opened by `openDisk`. Takes the file over, also when it throws. */
export function adoptBlock(config: BlockConfig, file: OwnedFd): OpenDevice<BlockStart | BackEndStart> {
  using stack = new DisposableStack();
  stack.use(file);
  const adopted: ImageFile = {
    fd: file.fd,
    shape: statFile(file.fd),
    [Symbol.dispose]: () => file.close(),
  };
  checkShape(config, adopted.shape, !config.readOnly);
  // Another file is opened as usual.
  const open = (wanted: BlockConfig) => (wanted.path === config.path ? adopted : openDisk(wanted));
  const device = openBlock(config, { ramEnd: 0 }, { open, ring: false });
  stack.move();
  return device;
}

export function openDisk(config: BlockConfig): ImageFile {
  const written = !config.readOnly && config.overlay === undefined;
  const flags =
    (written ? OPEN.readWrite : OPEN.readOnly) |
    (config.cache === 'Writethrough' && written ? OPEN_DATA_SYNC : 0) |
    (config.direct ? OPEN_DIRECT : 0);
  const file = openImageFile(config.path, flags, lockOf(config, written), config.direct);
  try {
    if (config.format === undefined) checkRaw(file, config.path);
    checkShape(config, file.shape, written);
    return file;
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

function lockOf({ locked }: BlockConfig, written: boolean): ImageLock {
  if (!locked) return 'none';
  return written ? 'exclusive' : 'shared';
}

function checkShape({ path, partial }: BlockConfig, shape: OpenFileInfo, written: boolean): void {
  const { kind, bytes, blockBytes, readOnly } = shape;
  if (kind === 'other')
    throw imageFileError(path, 'it is neither a file nor a block device', {
      expected: 'a disk image or a block device',
    });
  if (readOnly && written)
    throw imageFileError(path, 'this block device is read-only', { fix: 'add readonly or overlay=FILE' });
  if (blockBytes > LARGEST_BLOCK_BYTES)
    throw imageFileError(path, `it has blocks of ${blockBytes} bytes`, {
      expected: `at most ${LARGEST_BLOCK_BYTES}`,
    });
  if (!partial && (bytes === 0 || bytes % blockBytes !== 0)) {
    const units = blockBytes === SECTOR_BYTES ? 'sectors' : 'blocks';
    const expected = `whole ${units} of ${blockBytes} bytes, at least one`;
    throw imageFileError(path, `it has ${bytes} bytes`, { expected });
  }
}

/** Opens an overlay, or creates it if the file does not exist or is empty. */
function openOverlay(
  path: string,
  baseFd: number,
  baseBytes: number,
): { file: ImageFile; shape: OverlayShape } {
  const shape = overlayShape(baseBytes, readMtimeMs(baseFd));
  const file = openImageFile(path, OPEN.readWrite | OPEN.create, 'exclusive', false);
  try {
    if (file.shape.kind !== 'file')
      throw imageFileError(path, 'the overlay is not a regular file', { expected: 'a file' });
    if (statFile(file.fd).bytes === 0) createOverlay(file.fd, path, shape);
    const header = new Uint8Array(OVERLAY_HEADER.size);
    readAt(file.fd, header, 0);
    const problem = checkOverlay(header, statFile(file.fd).bytes, shape);
    if (problem !== undefined) throw new VoltError('image', `Cannot use overlay=${path}: ${problem}`);
    return { file, shape };
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

/**
 * The header is written last: after a crash, a file without one is refused rather than taken for an empty
 * overlay.
 */
function createOverlay(fd: number, path: string, shape: OverlayShape): void {
  const failed =
    setFileLength(fd, shape.fileBytes) ||
    flushFile(fd) ||
    writeAllAt(fd, encodeOverlayHeader(shape), 0) ||
    flushFile(fd);
  if (failed)
    throw new VoltError(
      'host',
      `Cannot create overlay=${path}: ${errnoName(failed)}; free space on its file system`,
    );
  syncDirectory(dirname(path));
}
