/** /dev/kvm: the host's KVM capabilities and the creation of virtual machines. (api.rst, system ioctls) */
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

const KVM_DEVICE = '/dev/kvm';

/** The next step for a user whose /dev/kvm does not open; undefined for errors without a known cause. */
export function openKvmAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.ENOENT:
    case ERRNO.ENODEV:
    case ERRNO.ENXIO:
      return 'load kvm_intel or kvm_amd, enable VT-x or AMD-V in the firmware, or nested virtualization if this host is itself a virtual machine';
    case ERRNO.EACCES:
    case ERRNO.EPERM:
      return 'add your user to the kvm group (usermod -aG kvm USER, then log in again) or run as root; a container needs the group of the device (--group-add)';
    default:
      return undefined;
  }
}

function createVmAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.EBUSY:
      return 'another hypervisor on this host uses VT-x or AMD-V; stop it first';
    case ERRNO.ENOMEM:
      return 'the host has too little free memory for another virtual machine';
    case ERRNO.EINVAL:
      return "this host's KVM does not support the default machine type";
    default:
      return undefined;
  }
}

/** An open /dev/kvm. A VM stays usable after its KvmSystem is closed. */
export class KvmSystem implements Disposable {
  readonly #device: OwnedFd;
  /** The same for as long as KVM is loaded; asking takes a millisecond on some hosts. */
  #supportedCpuid: readonly CpuidEntry[] | undefined;
  #prepared: KvmVm | undefined;

  /** Opens `path`. Throws SyscallError with advice, or VoltError 'host' when the API version is not 12. */
  constructor(path: string = KVM_DEVICE) {
    this.#device = openFile(path, OPEN.readWrite, openKvmAdvice);
    const version = libc.ioctl(this.#device.fd, IOCTL.getApiVersion, null);
    if (version !== KVM_API_VERSION) {
      this.#device.close();
      throw new VoltError(
        'host',
        `Cannot use ${path}: its API version is ${version} (expected ${KVM_API_VERSION})`,
      );
    }
  }

  /** Valid until dispose. */
  get fd(): number {
    return this.#device.fd;
  }

  /**
   * KVM_CHECK_EXTENSION: 0 when KVM lacks the capability, otherwise a positive value that the capability
   * defines.
   */
  check(capability: number): number {
    // SAFETY: the argument is a number; KVM does not dereference it.
    return checked(
      libc.ioctl(this.#device.fd, IOCTL.checkExtension, asPointer(capability as never)),
      'KVM_CHECK_EXTENSION',
    );
  }

  /** Maximum vCPUs of a VM; 4 where KVM reports neither limit. (api.rst, KVM_CREATE_VCPU) */
  get maxVcpus(): number {
    return this.check(CAP.maxVcpus) || this.check(CAP.nrVcpus) || 4;
  }

  /** KVM_GET_SUPPORTED_CPUID: the CPUID leaves that the hardware and KVM support. Throws SyscallError. */
  supportedCpuid(): readonly CpuidEntry[] {
    return (this.#supportedCpuid ??= this.#readSupportedCpuid());
  }

  #readSupportedCpuid(): CpuidEntry[] {
    // KVM returns E2BIG when the buffer is too small. Current hosts have 30 to 100 entries.
    for (let capacity = 128; ; capacity *= 2) {
      const buffer = new Uint8Array(CPUID2.size + capacity * CPUID_ENTRY.size);
      // SAFETY: KVM writes at most `nent` entries, for which `buffer` has room, during the call.
      const view = viewOf(buffer);
      view.setUint32(CPUID2.nent, capacity, true);
      if (libc.ioctl(this.#device.fd, IOCTL.getSupportedCpuid, buffer) >= 0) return decodeCpuid(buffer);
      const errno = lastErrno();
      if (errno !== ERRNO.E2BIG || capacity > 4096) throw new SyscallError('KVM_GET_SUPPORTED_CPUID', errno);
    }
  }

  /** KVM_GET_VCPU_MMAP_SIZE: size of a vCPU's kvm_run mapping, in bytes. */
  get vcpuMmapBytes(): number {
    return checked(libc.ioctl(this.#device.fd, IOCTL.getVcpuMmapSize, null), 'KVM_GET_VCPU_MMAP_SIZE');
  }

  /** Byte offset of the coalesced ring in that mapping; 0 when KVM cannot coalesce port writes. */
  get coalescedRingOffset(): number {
    return this.check(CAP.coalescedPio) > 0 ? this.check(CAP.coalescedMmio) * PAGE_BYTES : 0;
  }

  /** Creates a VM with its interrupt controllers, which takes milliseconds, for the next `createVm`. */
  prepareVm(): void {
    this.#prepared ??= this.#createVm();
    this.#prepared.createInterruptControllers();
  }

  /** KVM_CREATE_VM of the default machine type, or the one prepared. Throws SyscallError with advice. */
  createVm(): KvmVm {
    const prepared = this.#prepared;
    this.#prepared = undefined;
    return prepared ?? this.#createVm();
  }

  #createVm(): KvmVm {
    for (;;) {
      const fd = libc.ioctl(this.#device.fd, IOCTL.createVm, null);
      if (fd >= 0) return new KvmVm(new OwnedFd(fd), this.vcpuMmapBytes, this.coalescedRingOffset);
      const errno = lastErrno();
      // A signal during VM creation, such as one of the runtime's timers, makes KVM fail with EINTR.
      if (errno !== ERRNO.EINTR) throw new SyscallError('KVM_CREATE_VM', errno, createVmAdvice(errno));
    }
  }

  [Symbol.dispose](): void {
    this.#prepared?.[Symbol.dispose]();
    this.#device.close();
  }
}
