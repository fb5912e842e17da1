/** Memory that other processes can map. (memfd_create(2)) */
import { dlopen } from 'bun:ffi';
import { setFileLength } from './block-file.ts';
import { SyscallError } from './errno.ts';
import { OwnedFd } from './file.ts';
import { checked, cString, libc } from './libc.ts';

const MFD = { closeOnExec: 0x1, allowSealing: 0x2, hugeTlb: 0x4, huge2Mb: 21 << 26 } as const;
const F_ADD_SEALS = 1033;
/** F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW */
const SIZE_SEALS = 0x1 | 0x2 | 0x4;

function bind() {
  return dlopen('libc.so.6', {
    // int memfd_create(const char *name, unsigned int flags)
    memfd_create: { args: ['ptr', 'u32'], returns: 'i32' },
  }).symbols;
}

let bound: ReturnType<typeof bind> | undefined;

/**
 * A memfd of `bytes` zeroes, allocated on first use. Its size is sealed: otherwise a process that is given
 * the descriptor could truncate it, and accesses by others would raise SIGBUS. Throws SyscallError.
 */
export function createSharedMemory(name: string, bytes: number, hugepages: boolean): OwnedFd {
  bound ??= bind();
  const flags = MFD.closeOnExec | MFD.allowSealing | (hugepages ? MFD.hugeTlb | MFD.huge2Mb : 0);
  const memory = new OwnedFd(checked(bound.memfd_create(cString(name), flags), 'memfd_create'));
  try {
    const failed = setFileLength(memory.fd, bytes);
    if (failed) throw new SyscallError(`ftruncate to ${bytes} bytes for ${name}`, failed);
    checked(libc.fcntl(memory.fd, F_ADD_SEALS, SIZE_SEALS), 'fcntl(F_ADD_SEALS)');
    return memory;
  } catch (error) {
    memory.close();
    throw error;
  }
}
