/**
 * A VM's file descriptor: memory slots, interrupt controllers, irqfds, vCPUs. (api.rst, VM ioctls)
 *
 * SAFETY: unless noted, each ioctl's argument is local, and KVM reads it only during the call.
 */
import { putU64, viewOf } from '../binary/bytes.ts';
import { ERRNO } from '../ffi/errno.ts';
import { OwnedFd } from '../ffi/file.ts';
import { addressOf, asPointer, checked, libc, type HostPointer } from '../ffi/libc.ts';
import { LAYOUT } from '../machine/layout.ts';
import type { Msi } from '../machine/msi.ts';
import type { GuestAddress } from '../machine/address.ts';
import {
  CAP,
  DIRTY_LOG,
  ENABLE_CAP,
  IOCTL,
  IOEVENTFD,
  IOEVENTFD_FLAG,
  IRQ_LEVEL,
  IRQFD,
  MEMORY_SLOT_LOG_DIRTY_PAGES,
  MSI,
  USER_MEMORY_REGION,
  X2APIC_API,
} from './abi.ts';
import { KvmVcpu } from './vcpu.ts';

function createVcpuAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.EINVAL:
      return "this host's KVM allows fewer vCPUs or only lower APIC ids; see volt doctor";
    case ERRNO.ENOMEM:
      return 'the host has too little free memory for so many vCPUs';
    case ERRNO.EMFILE:
      return 'raise the limit on open files (ulimit -n): every vCPU needs three';
    default:
      return undefined;
  }
}

const IRQFD_ADVICE = 'virtio devices need irqfd and ioeventfd; see volt doctor';

export class KvmVm implements Disposable {
  /**
   * Byte offset of the coalesced ring in each vCPU's kvm_run mapping; 0 when KVM cannot coalesce port writes.
   */
  readonly coalescedRingOffset: number;
  readonly #owned: OwnedFd;
  readonly #vcpuMmapBytes: number;
  #hasControllers = false;

  constructor(owned: OwnedFd, vcpuMmapBytes: number, coalescedRingOffset: number) {
    this.#owned = owned;
    this.#vcpuMmapBytes = vcpuMmapBytes;
    this.coalescedRingOffset = coalescedRingOffset;
  }

  /** For workers that raise interrupts through it; valid until dispose. */
  get fd(): number {
    return this.#owned.fd;
  }

  /**
   * KVM_SET_USER_MEMORY_REGION: maps `bytes` of host memory at `host` to guest physical address `guest`. All
   * three must be multiples of 4096. With `logDirtyPages` KVM notes the pages that the guest writes from now on;
   * a slot that exists may change that while vCPUs run. Throws SyscallError.
   */
  setMemorySlot(
    slot: number,
    guest: GuestAddress,
    bytes: number,
    host: HostPointer,
    logDirtyPages = false,
  ): void {
    setVmMemorySlot(this.fd, { slot, guest, bytes, host, logDirtyPages });
  }

  /**
   * KVM_GET_DIRTY_LOG: one bit for each of the `pages` pages of a slot that were written since the last call,
   * for `runsOfBits`; their notes are cleared. Throws SyscallError.
   */
  takeDirtyLog(slot: number, pages: number): Uint32Array {
    // KVM writes whole u64.
    const bits = new Uint32Array(2 * Math.ceil(pages / 64));
    const log = new Uint8Array(DIRTY_LOG.size);
    const view = viewOf(log);
    view.setUint32(DIRTY_LOG.slot, slot, true);
    putU64(view, DIRTY_LOG.bitmap, addressOf(bits));
    // SAFETY: `bits` outlives the call, during which KVM fills it.
    checked(libc.ioctl(this.fd, IOCTL.getDirtyLog, log), 'KVM_GET_DIRTY_LOG');
    return bits;
  }

  /**
   * Sets the addresses that KVM needs on Intel hosts without unrestricted guest, then creates the in-kernel
   * PICs, I/O APIC and local APICs (KVM_CREATE_IRQCHIP). Before any vCPU is created. A prepared VM has them
   * already. Throws SyscallError.
   */
  createInterruptControllers(): void {
    if (this.#hasControllers) return;
    this.#hasControllers = true;
    const identity = new Uint8Array(8);
    putU64(viewOf(identity), 0, LAYOUT.identityMap.address);
    checked(libc.ioctl(this.fd, IOCTL.setIdentityMapAddr, identity), 'KVM_SET_IDENTITY_MAP_ADDR');
    // SAFETY: the argument is a guest physical address; KVM does not dereference it in this process.
    checked(
      libc.ioctl(this.fd, IOCTL.setTssAddr, asPointer(LAYOUT.tss.address as never)),
      'KVM_SET_TSS_ADDR',
    );
    checked(libc.ioctl(this.fd, IOCTL.createIrqchip, null), 'KVM_CREATE_IRQCHIP');
  }

  /** KVM_SET_BOOT_CPU_ID: makes the vCPU with this id the BSP (default: 0). Before any vCPU is created. */
  setBootCpu(apicId: number): void {
    // SAFETY: the argument is a number; KVM does not dereference it.
    checked(libc.ioctl(this.fd, IOCTL.setBootCpuId, asPointer(apicId as never)), 'KVM_SET_BOOT_CPU_ID');
  }

  /**
   * KVM_CAP_X2APIC_API: 32-bit APIC ids, for ids above 254. Before any vCPU is created. Throws SyscallError.
   */
  enableX2apicIds(): void {
    const request = new Uint8Array(ENABLE_CAP.size);
    const view = viewOf(request);
    view.setUint32(ENABLE_CAP.cap, CAP.x2apicApi, true);
    putU64(view, ENABLE_CAP.args, X2APIC_API.use32bitIds | X2APIC_API.disableBroadcastQuirk);
    checked(libc.ioctl(this.fd, IOCTL.enableCap, request), 'KVM_CAP_X2APIC_API', (errno) =>
      errno === ERRNO.EINVAL
        ? "this host's KVM does not support APIC ids above 254; use fewer --cpus"
        : undefined,
    );
  }

  /** KVM_SIGNAL_MSI. Returns false when the guest blocked the interrupt. Throws SyscallError. */
  signalMsi({ address, addressHigh, data }: Msi): boolean {
    const msi = new Uint8Array(MSI.size);
    const view = viewOf(msi);
    view.setUint32(MSI.addressLow, address, true);
    view.setUint32(MSI.addressHigh, addressHigh, true);
    view.setUint32(MSI.data, data, true);
    return checked(libc.ioctl(this.fd, IOCTL.signalMsi, msi), 'KVM_SIGNAL_MSI') > 0;
  }

  /** KVM_IRQFD: each write to eventfd `fd` from now on raises an edge on `gsi`. Throws SyscallError. */
  addIrqFd(gsi: number, fd: number): void {
    const argument = new Uint8Array(IRQFD.size);
    const view = viewOf(argument);
    view.setUint32(IRQFD.fd, fd, true);
    view.setUint32(IRQFD.gsi, gsi, true);
    checked(libc.ioctl(this.fd, IOCTL.irqfd, argument), 'KVM_IRQFD', () => IRQFD_ADVICE);
  }

  /**
   * KVM_IOEVENTFD: a 32-bit guest write of `value` to `address` from now on signals eventfd `fd` instead of
   * causing an exit. Throws SyscallError.
   */
  addIoEventFd(address: GuestAddress, value: number, fd: number): void {
    const argument = new Uint8Array(IOEVENTFD.size);
    const view = viewOf(argument);
    putU64(view, IOEVENTFD.datamatch, value);
    putU64(view, IOEVENTFD.addr, address);
    view.setUint32(IOEVENTFD.len, 4, true);
    view.setInt32(IOEVENTFD.fd, fd, true);
    view.setUint32(IOEVENTFD.flags, IOEVENTFD_FLAG.datamatch, true);
    checked(libc.ioctl(this.fd, IOCTL.ioeventfd, argument), 'KVM_IOEVENTFD', () => IRQFD_ADVICE);
  }

  /** KVM_CREATE_VCPU: the vCPU's id is its APIC id. Throws SyscallError with advice. */
  createVcpu(apicId: number): KvmVcpu {
    // SAFETY: the argument is a number; KVM does not dereference it.
    const fd = checked(
      libc.ioctl(this.fd, IOCTL.createVcpu, asPointer(apicId as never)),
      `KVM_CREATE_VCPU ${apicId}`,
      createVcpuAdvice,
    );
    return new KvmVcpu(new OwnedFd(fd), apicId, this.#vcpuMmapBytes);
  }

  [Symbol.dispose](): void {
    this.#owned.close();
  }
}

/** One input of the in-kernel interrupt controllers. `set` allocates nothing. */
export class IrqLine {
  readonly #vmFd: number;
  readonly #level = new Uint32Array(IRQ_LEVEL.size / 4);

  constructor(vmFd: number, gsi: number) {
    this.#vmFd = vmFd;
    this.#level[IRQ_LEVEL.irq / 4] = gsi;
  }

  /** KVM_IRQ_LINE. Throws SyscallError. */
  set(level: 0 | 1): void {
    this.#level[IRQ_LEVEL.level / 4] = level;
    checked(libc.ioctl(this.#vmFd, IOCTL.irqLine, this.#level), 'KVM_IRQ_LINE');
  }
}

/**
 * A memory slot of the VM behind `vmFd`, from any thread; with 0 bytes it is taken away. Throws SyscallError.
 */
export function setVmMemorySlot(
  vmFd: number,
  slot: {
    readonly slot: number;
    readonly guest: GuestAddress;
    readonly bytes: number;
    readonly host: HostPointer;
    readonly logDirtyPages: boolean;
  },
): void {
  const region = new Uint8Array(USER_MEMORY_REGION.size);
  const view = viewOf(region);
  view.setUint32(USER_MEMORY_REGION.slot, slot.slot, true);
  view.setUint32(USER_MEMORY_REGION.flags, slot.logDirtyPages ? MEMORY_SLOT_LOG_DIRTY_PAGES : 0, true);
  putU64(view, USER_MEMORY_REGION.guestPhysAddr, slot.guest);
  putU64(view, USER_MEMORY_REGION.memorySize, slot.bytes);
  putU64(view, USER_MEMORY_REGION.userspaceAddr, slot.host);
  // SAFETY: the guest accesses [host, host + bytes) until the VM is closed or the slot is taken away; the caller keeps it
  // mapped until then.
  checked(libc.ioctl(vmFd, IOCTL.setUserMemoryRegion, region), 'KVM_SET_USER_MEMORY_REGION', (errno) =>
    errno === ERRNO.EINVAL
      ? 'two memory ranges overlap, one is not page-aligned, or one has more than 8 TiB'
      : undefined,
  );
}
