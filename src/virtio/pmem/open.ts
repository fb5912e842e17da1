/** Persistent memory: a file that is mapped into the guest, and flushed when the guest asks for it. */
import type { VirtioDevice } from '../transport/device.ts';
import { describePmem, PmemDevice } from './device.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { fileShape, flushFile, reserveRoom, type FileShape } from '../../ffi/block-file.ts';
import { ERRNO, errnoName } from '../../ffi/errno.ts';
import { OPEN, openFile } from '../../ffi/file.ts';
import { MAP, Mapping, mapMemory, PROT } from '../../ffi/mapping.ts';
import { alignUp, MIB, PAGE_BYTES } from '../../machine/address.ts';
import type { DeviceServices } from '../host/services.ts';
import { openDiskFile, unopenedDisk, unusableDisk } from '../host/image-files.ts';
import type { PmemConfig } from './spec.ts';
import { PMEM_UNIT_BYTES, type PmemPlace } from './placement.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface PmemStart {
  readonly kind: 'pmem';
  /** undefined: nothing that the guest writes has to be safe. */
  readonly fd: number | undefined;
  readonly fileBytes: number;
  readonly limits: RateLimits;
}

const FLAG = '--pmem';
const READ_WRITE = PROT.read | PROT.write;

/** A machine that is made anew lies as the first one did; in the sandbox nobody could look again. */
const known = new WeakMap<PmemConfig, number>();

/** How many bytes the file has, before anything is done with it. Throws VoltError 'image' for one that does not do. */
export function pmemFileBytes(config: PmemConfig): number {
  const before = known.get(config);
  if (before !== undefined) return before;
  const { bytes } = lookAt(config);
  known.set(config, bytes);
  return bytes;
}

function lookAt({ path, readOnly }: PmemConfig): FileShape {
  let shape: FileShape;
  try {
    using file = openFile(path, OPEN.readOnly | OPEN.nonBlocking);
    shape = fileShape(file.fd);
  } catch (error) {
    throw unopenedDisk(path, error, !readOnly, FLAG);
  }
  const bad = (found: string, expected: string) => unusableDisk(path, found, expected, FLAG);
  const { kind, bytes } = shape;
  if (kind === 'other') throw bad('it is neither a file nor a block device', 'a file or a block device');
  if (shape.readOnly && !readOnly) throw bad('this block device takes no writes', 'readonly');
  // A guest takes whole units, and what it wrote behind the end of the file would be lost.
  if (bytes === 0 || (!readOnly && bytes % PMEM_UNIT_BYTES !== 0))
    throw bad(
      `it has ${bytes} bytes`,
      `a multiple of ${PMEM_UNIT_BYTES / MIB} MiB: truncate -s ${Math.max(1, Math.ceil(bytes / PMEM_UNIT_BYTES)) * (PMEM_UNIT_BYTES / MIB)}M makes it one`,
    );
  return shape;
}

/** Throws VoltError 'image' that says what is wrong with the file, and SyscallError. */
export function openPmemDevice(config: PmemConfig, place: PmemPlace): OpenDevice {
  const { path, readOnly, limits } = config;
  using stack = new DisposableStack();
  const flags = readOnly ? OPEN.readOnly : OPEN.readWrite;
  const file = stack.use(openDiskFile(path, flags, !readOnly, false, FLAG));
  const { address, bytes, fileBytes } = place;
  if (file.shape.bytes !== fileBytes)
    throw unusableDisk(
      path,
      `its size changes: it had ${fileBytes} bytes`,
      'a file that nobody changes',
      FLAG,
    );
  if (!readOnly && file.shape.kind === 'file') fillHoles(file.fd, path, fileBytes);
  const mapping = stack.use(readOnly ? mapCopy(file.fd, place) : mapFile(file.fd, place));
  const parts = stack.move();
  return {
    facts: describePmem({ address, bytes }),
    start: { kind: 'pmem', fd: readOnly ? undefined : file.fd, fileBytes, limits },
    // A flush waits for the disk.
    blocks: true,
    region: { address, bytes, host: mapping.address, fd: undefined },
    close: () => parts.dispose(),
  };
}

/**
 * A guest that writes to a hole for which the host has no room any more is not told so: KVM has it try again, for ever.
 * Where the file system cannot promise room, the guest takes its chance.
 */
function fillHoles(fd: number, path: string, bytes: number): void {
  const errno = reserveRoom(fd, bytes);
  if (errno === 0 || errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENOSYS) return;
  const full = errno === ERRNO.ENOSPC || errno === ERRNO.EDQUOT;
  const found = full ? `there is no room for all its ${bytes} bytes` : `no room for it: ${errnoName(errno)}`;
  throw unusableDisk(path, found, 'a file system with that much free', FLAG);
}

/** Everything that is written there is written to the file. */
function mapFile(fd: number, { bytes }: PmemPlace): Mapping {
  return new Mapping({ bytes, prot: READ_WRITE, flags: MAP.shared, fd, what: `${FLAG} of ${bytes} bytes` });
}

/**
 * The guest sees the file, and its own writes, which are gone with it. Memory that cannot be written is nothing that
 * virtio knows of; a guest that tried would be stopped in the middle of an instruction.
 */
function mapCopy(fd: number, { bytes, fileBytes }: PmemPlace): Mapping {
  const what = `${FLAG} of ${bytes} bytes`;
  const flags = MAP.private | MAP.noReserve;
  const mapping = new Mapping({ bytes, prot: READ_WRITE, flags: flags | MAP.anonymous, what });
  mapMemory({
    at: mapping.address,
    bytes: alignUp(fileBytes, PAGE_BYTES),
    prot: READ_WRITE,
    // SAFETY: replaces pages of the mapping above, which is as long at least.
    flags: flags | MAP.fixed,
    fd,
    what,
  });
  return mapping;
}

export function createPmemDevice(
  { fd, fileBytes, limits }: PmemStart,
  services: DeviceServices,
): VirtioDevice {
  const glue = {
    flush: () => (fd === undefined ? 0 : flushFile(fd)),
    now: () => performance.now(),
    after: (delayMs: number, handler: () => void) => services.after(delayMs, handler),
  };
  return new PmemDevice(glue, fileBytes, limits);
}
