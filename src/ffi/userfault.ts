/** userfaultfd(2): pages of a range are supplied by whoever holds the descriptor. (linux/userfaultfd.h) */
import { getU64, putU64, viewOf } from '../binary/bytes.ts';
import { ERRNO, SyscallError } from './errno.ts';
import { OPEN, openFile, OwnedFd } from './file.ts';
import { asPointer, checked, lastErrno, libc } from './libc.ts';

/** (asm/unistd_64.h) */
const SYS_USERFAULTFD = 323;
const DEVICE = '/dev/userfaultfd';
/** The descriptor that others get must not block them: it is polled. */
const FLAGS = OPEN.closeOnExec | OPEN.nonBlocking;

/** `struct uffdio_api`, `struct uffdio_register` */
const API = { api: 0x00, features: 0x08, ioctls: 0x10, size: 0x18 } as const;
const REGISTER = { start: 0x00, bytes: 0x08, mode: 0x10, ioctls: 0x18, size: 0x20 } as const;
const UFFD_API = 0xaa;
const MODE_MISSING = 1;
const IOCTL = { new: 0xaa00, api: 0xc018_aa3f, register: 0xc020_aa00 } as const;

export const USERFAULT_FEATURE = {
  eventRemove: 1 << 3,
  missingHugetlb: 1 << 4,
  missingShmem: 1 << 5,
} as const;

/**
 * A userfaultfd that also serves faults of the kernel and of KVM, with USERFAULT_FEATURE bits `features`. Throws
 * SyscallError.
 */
export function createUserfault(features: number): OwnedFd {
  const owned = openUserfault();
  try {
    const request = new Uint8Array(API.size);
    putU64(viewOf(request), API.api, UFFD_API);
    putU64(viewOf(request), API.features, features);
    // SAFETY: the kernel accesses `request` during the call.
    checked(
      libc.ioctl(owned.fd, IOCTL.api, request),
      'UFFDIO_API',
      () => 'this kernel lacks a feature of userfaultfd (Linux 4.11 has them)',
    );
    return owned;
  } catch (error) {
    owned.close();
    throw error;
  }
}

/** Without privileges, the call makes one that fails for faults of KVM, so that is not tried. */
function openUserfault(): OwnedFd {
  const fd = Number(libc.syscall(SYS_USERFAULTFD, FLAGS, 0, 0, 0, 0, 0));
  if (fd >= 0) return new OwnedFd(fd);
  const errno = lastErrno();
  if (errno !== ERRNO.EPERM) throw new SyscallError('userfaultfd', errno);
  const advice = () =>
    `give this user ${DEVICE} (setfacl -m u:USER:rw ${DEVICE}), or set sysctl vm.unprivileged_userfaultfd=1`;
  using device = openFile(DEVICE, OPEN.readWrite, advice);
  // SAFETY: the argument is a number; the kernel does not dereference it.
  const made = libc.ioctl(device.fd, IOCTL.new, asPointer(FLAGS as never));
  return new OwnedFd(checked(made, 'USERFAULTFD_IOC_NEW'));
}

/**
 * UFFDIO_REGISTER: whoever touches a missing page of [host, host + bytes) waits until it is supplied. Throws
 * SyscallError.
 * SAFETY: the caller owns the range, which is anonymous memory, hugetlb pages or a memfd.
 */
export function registerMissing(fd: number, host: number, bytes: number): void {
  const request = new Uint8Array(REGISTER.size);
  const view = viewOf(request);
  putU64(view, REGISTER.start, host);
  putU64(view, REGISTER.bytes, bytes);
  putU64(view, REGISTER.mode, MODE_MISSING);
  checked(libc.ioctl(fd, IOCTL.register, request), 'UFFDIO_REGISTER');
  // The handler cannot do without UFFDIO_COPY.
  if ((getU64(view, REGISTER.ioctls) & COPY) === 0)
    throw new SyscallError('UFFDIO_REGISTER', ERRNO.EINVAL, 'this memory cannot be supplied by userfaultfd');
}

/** Bit of UFFDIO_COPY in `ioctls`. */
const COPY = 1 << 3;
