/** /dev/kvm itself: what this host's KVM can do, and new virtual machines. */
import { viewOf } from '../binary/bytes.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { OPEN, openFile, OwnedFd } from '../ffi/file.ts';
import { asPointer, checked, lastErrno, libc } from '../ffi/libc.ts';
import { PAGE_BYTES } from '../machine/address.ts';
import { CAP, CPUID2, CPUID_ENTRY, IOCTL, KVM_API_VERSION } from './abi.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { decodeCpuid } from './cpuid-codec.ts';
import { VoltError } from '../volt-error.ts';
import { KvmVm } from './vm.ts';

export const KVM_DEVICE = '/dev/kvm';

/** What to do about a /dev/kvm that does not open. */
export function openKvmAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.ENOENT:
    case ERRNO.ENODEV:
    case ERRNO.ENXIO:
      return 'load kvm_intel or kvm_amd, enable VT-x or AMD-V in the firmware, or nested virtualization if this host is itself a virtual machine';
    case ERRNO.EACCES:
    case ERRNO.EPERM:
      return 'add your user to the kvm group (usermod -aG kvm USER, then log in again) or run as root';
    default:
      return undefined;
  }
}

function createVmAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.EBUSY:
      return 'another hypervisor on this host holds the virtualization hardware; stop it first';
    case ERRNO.ENOMEM:
      return 'the host has too little free memory for another virtual machine';
    case ERRNO.EINVAL:
      return "this host's KVM does not offer the default machine type";
    default:
      return undefined;
  }
}

/** The open /dev/kvm. Owned by whoever opened it; a VM made from it outlives it. */
export class KvmSystem implements Disposable {
  readonly #device: OwnedFd;

  /** Opens `path`. Throws SyscallError with advice, or VoltError when the API version is not 12. */
  constructor(path: string = KVM_DEVICE) {
    this.#device = openFile(path, OPEN.readWrite, openKvmAdvice);
    const version = libc.ioctl(this.#device.fd, IOCTL.getApiVersion, null);
    if (version !== KVM_API_VERSION) {
      this.#device.close();
      throw new VoltError(
        'host',
        `Cannot use ${path}: it answers API version ${version} (expected ${KVM_API_VERSION})`,
      );
    }
  }

  /** KVM_CHECK_EXTENSION: 0 when KVM lacks it, else a positive number that the capability defines. */
  check(capability: number): number {
    // SAFETY: the argument is a number, not an address; KVM does not follow it.
    return checked(
      libc.ioctl(this.#device.fd, IOCTL.checkExtension, asPointer(capability as never)),
      'KVM_CHECK_EXTENSION',
    );
  }

  /** Most vCPUs one VM may have. */
  get maxVcpus(): number {
    return this.check(CAP.maxVcpus) || this.check(CAP.nrVcpus) || 4;
  }

  /** KVM_GET_SUPPORTED_CPUID: the leaves this host can give a guest. */
  supportedCpuid(): CpuidEntry[] {
    // KVM answers E2BIG while the buffer is too small, so it doubles; hosts of today have 30 to 100 entries.
    for (let capacity = 128; ; capacity *= 2) {
      const buffer = new Uint8Array(CPUID2.size + capacity * CPUID_ENTRY.size);
      const view = viewOf(buffer);
      view.setUint32(CPUID2.nent, capacity, true);
      if (libc.ioctl(this.#device.fd, IOCTL.getSupportedCpuid, buffer) >= 0) return decodeCpuid(buffer);
      const errno = lastErrno();
      if (errno !== ERRNO.E2BIG || capacity > 4096) throw new SyscallError('KVM_GET_SUPPORTED_CPUID', errno);
    }
  }

  /** Bytes of the mapping that each vCPU shares with KVM. */
  get vcpuMmapBytes(): number {
    return checked(libc.ioctl(this.#device.fd, IOCTL.getVcpuMmapSize, null), 'KVM_GET_VCPU_MMAP_SIZE');
  }

  /** Where in that mapping KVM gathers port writes; 0 when it cannot. */
  get coalescedRingOffset(): number {
    return this.check(CAP.coalescedPio) > 0 ? this.check(CAP.coalescedMmio) * PAGE_BYTES : 0;
  }

  createVm(): KvmVm {
    for (;;) {
      const fd = libc.ioctl(this.#device.fd, IOCTL.createVm, null);
      if (fd >= 0) return new KvmVm(new OwnedFd(fd), this.vcpuMmapBytes, this.coalescedRingOffset);
      const errno = lastErrno();
      // A signal during VM creation (the runtime's own timers, say) makes KVM give up with EINTR.
      if (errno !== ERRNO.EINTR) throw new SyscallError('KVM_CREATE_VM', errno, createVmAdvice(errno));
    }
  }

  [Symbol.dispose](): void {
    this.#device.close();
  }
}
