/** Opens the file behind persistent memory and maps it for the guest. */
import { statFile, allocateBlocks, type OpenFileInfo } from '../../ffi/block-file.ts';
import { ERRNO, errnoName } from '../../ffi/errno.ts';
import { OPEN, openFile } from '../../ffi/file.ts';
import { MAP, Mapping, mapMemory, PROT } from '../../ffi/mapping.ts';
import { alignUp, MIB, PAGE_BYTES } from '../../machine/address.ts';
import { checkRaw, imageFileError, openImageError, openImageFile } from '../host/image-files.ts';
import type { OpenContext, OpenDevice } from '../host/open-device.ts';
import { describePmem } from './device.ts';
import { PMEM_UNIT_BYTES, type PmemPlacement } from './placement.ts';
import type { PmemStart } from './serve.ts';
import type { PmemConfig } from './spec.ts';

const FLAG = '--pmem';
const READ_WRITE = PROT.read | PROT.write;

/** Size of the file in bytes, for planning. Throws VoltError 'image' for a file that cannot be used. */
export function readPmemBytes(config: PmemConfig): number {
  return inspectFile(config).bytes;
}

function inspectFile({ path, readOnly }: PmemConfig): OpenFileInfo {
  let shape: OpenFileInfo;
  try {
    using file = openFile(path, OPEN.readOnly | OPEN.nonBlocking);
    shape = statFile(file.fd);
  } catch (error) {
    throw openImageError(path, error, !readOnly, FLAG);
  }
  const bad = (found: string, advice: { expected: string } | { fix: string }) =>
    imageFileError(path, found, advice, FLAG);
  const { kind, bytes } = shape;
  if (kind === 'other')
    throw bad('it is neither a file nor a block device', { expected: 'a file or a block device' });
  if (shape.readOnly && !readOnly) throw bad('this block device is read-only', { fix: 'add readonly' });
  if (bytes === 0)
    throw bad('it has 0 bytes', { fix: `make it larger: truncate -s ${PMEM_UNIT_BYTES / MIB}M FILE` });
  return shape;
}

/** Throws VoltError 'image' when the file cannot be used, and SyscallError. */
export function openPmem(config: PmemConfig, { pmem }: OpenContext): OpenDevice<PmemStart> {
  const { path, readOnly, limits } = config;
  const placement = pmem!;
  using stack = new DisposableStack();
  const flags = readOnly ? OPEN.readOnly : OPEN.readWrite;
  const lock = !config.locked ? 'none' : readOnly ? 'shared' : 'exclusive';
  const file = stack.use(openImageFile(path, flags, lock, false, FLAG));
  if (config.format === undefined) checkRaw(file, path, FLAG);
  const { address, bytes, fileBytes } = placement;
  if (file.shape.bytes !== fileBytes)
    throw imageFileError(
      path,
      `its size changed while Volt started: it had ${fileBytes} bytes`,
      { fix: 'use a file that no other program changes' },
      FLAG,
    );
  if (!readOnly && file.shape.kind === 'file') fillHoles(file.fd, path, fileBytes);
  const files = stack.move();
  return {
    description: describePmem({ address, bytes }),
    start: { fd: readOnly ? undefined : file.fd, fileBytes, limits },
    // A flush blocks until the data is on the disk.
    blocks: true,
    mapRegion: () => (readOnly ? mapCopy(file.fd, placement) : mapFile(file.fd, placement)),
    close: () => files.dispose(),
  };
}

/**
 * Allocates all blocks of the file. A guest's write to a hole on a full file system cannot fail: KVM retries
 * it for ever. File systems that cannot allocate ahead keep that risk.
 */
function fillHoles(fd: number, path: string, bytes: number): void {
  const errno = allocateBlocks(fd, bytes);
  if (errno === 0 || errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENOSYS) return;
  const full = errno === ERRNO.ENOSPC || errno === ERRNO.EDQUOT;
  const found = full
    ? `there is no room for all its ${bytes} bytes`
    : `its blocks cannot be allocated: ${errnoName(errno)}`;
  throw imageFileError(path, found, { fix: 'use a file system with that much free space' }, FLAG);
}

/**
 * Maps the file shared: the guest's writes reach it. The region has whole units; a file that ends inside one
 * is followed by zeroed memory, as in Firecracker, and writes there are lost.
 */
function mapFile(fd: number, { bytes, fileBytes }: PmemPlacement): Mapping {
  if (fileBytes === bytes) {
    const what = `${FLAG} of ${bytes} bytes`;
    return new Mapping({ bytes, prot: READ_WRITE, flags: MAP.shared, fd, what });
  }
  return mapPadded(fd, bytes, fileBytes, MAP.shared);
}

/**
 * Maps the file copy-on-write: the guest's writes are private and end with it. virtio-pmem has no read-only
 * memory, and a write to a read-only mapping would stop the guest inside an instruction.
 */
function mapCopy(fd: number, { bytes, fileBytes }: PmemPlacement): Mapping {
  return mapPadded(fd, bytes, fileBytes, MAP.private | MAP.noReserve);
}

/** Maps the file by `flags`, followed by anonymous memory up to `bytes`. */
function mapPadded(fd: number, bytes: number, fileBytes: number, flags: number): Mapping {
  const what = `${FLAG} of ${bytes} bytes`;
  const padding = MAP.private | MAP.noReserve | MAP.anonymous;
  const mapping = new Mapping({ bytes, prot: READ_WRITE, flags: padding, what });
  mapMemory({
    at: mapping.address,
    bytes: alignUp(fileBytes, PAGE_BYTES),
    prot: READ_WRITE,
    // SAFETY: replaces pages of the mapping above, which is at least as long.
    flags: flags | MAP.fixed,
    fd,
    what,
  });
  return mapping;
}
