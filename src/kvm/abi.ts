/**
 * KVM's user-space ABI on x86-64: ioctl numbers, structure layouts, exit reasons and capabilities. Constants
 * only. (Linux include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h; Documentation/virt/kvm/api.rst)
 *
 * Layouts are byte offsets, size last. `abi.test.ts` checks them against the C headers where gcc is present,
 * and everywhere against the size encoded in each ioctl number.
 */

export const KVM_API_VERSION = 12;

/** `struct kvm_regs` */
export const REGS = {
  rax: 0x00,
  rbx: 0x08,
  rcx: 0x10,
  rdx: 0x18,
  rsi: 0x20,
  rdi: 0x28,
  rsp: 0x30,
  rbp: 0x38,
  r8: 0x40,
  r9: 0x48,
  r10: 0x50,
  r11: 0x58,
  r12: 0x60,
  r13: 0x68,
  r14: 0x70,
  r15: 0x78,
  rip: 0x80,
  rflags: 0x88,
  size: 0x90,
} as const;

/** `struct kvm_segment` */
export const SEGMENT = {
  base: 0x00,
  limit: 0x08,
  selector: 0x0c,
  type: 0x0e,
  present: 0x0f,
  dpl: 0x10,
  db: 0x11,
  s: 0x12,
  l: 0x13,
  g: 0x14,
  avl: 0x15,
  unusable: 0x16,
  size: 0x18,
} as const;

/** `struct kvm_dtable` */
export const DTABLE = { base: 0x00, limit: 0x08, size: 0x10 } as const;

/** `struct kvm_sregs` */
export const SREGS = {
  cs: 0x00,
  ds: 0x18,
  es: 0x30,
  fs: 0x48,
  gs: 0x60,
  ss: 0x78,
  tr: 0x90,
  ldt: 0xa8,
  gdt: 0xc0,
  idt: 0xd0,
  cr0: 0xe0,
  cr2: 0xe8,
  cr3: 0xf0,
  cr4: 0xf8,
  cr8: 0x100,
  efer: 0x108,
  apicBase: 0x110,
  interruptBitmap: 0x118,
  size: 0x138,
} as const;

/** `struct kvm_userspace_memory_region` */
export const USER_MEMORY_REGION = {
  slot: 0x00,
  flags: 0x04,
  guestPhysAddr: 0x08,
  memorySize: 0x10,
  userspaceAddr: 0x18,
  size: 0x20,
} as const;

/** Flags of a memory slot. */
export const MEMORY_SLOT_LOG_DIRTY_PAGES = 1;

/** `struct kvm_dirty_log` */
export const DIRTY_LOG = { slot: 0x00, bitmap: 0x08, size: 0x10 } as const;

/** `struct kvm_irq_level` */
export const IRQ_LEVEL = { irq: 0x00, level: 0x04, size: 0x08 } as const;
/** `struct kvm_pit_config` */
export const PIT_CONFIG = { flags: 0x00, size: 0x40 } as const;
export const PIT_SPEAKER_DUMMY = 1;
/** `struct kvm_pit_channel_state`: the fields that Volt writes. */
export const PIT_CHANNEL = {
  count: 0x00,
  readState: 0x09,
  writeState: 0x0a,
  rwMode: 0x0c,
  mode: 0x0d,
  bcd: 0x0e,
  gate: 0x0f,
  size: 0x18,
} as const;
/** `struct kvm_pit_state2` */
export const PIT_STATE = { channels: 0x00, flags: 0x48, size: 0x70 } as const;
export const PIT_SPEAKER_DATA_ON = 2;

/** `struct kvm_coalesced_mmio_zone` */
export const COALESCED_ZONE = { address: 0x00, bytes: 0x08, pio: 0x0c, size: 0x10 } as const;
/** `struct kvm_coalesced_mmio_ring` with its entries, `struct kvm_coalesced_mmio`. */
export const COALESCED_RING = {
  first: 0x00,
  last: 0x04,
  entries: 0x08,
  entryAddress: 0x00,
  entryData: 0x10,
  entryBytes: 0x18,
} as const;

/** `struct kvm_irqfd` and `struct kvm_ioeventfd` */
export const IRQFD = { fd: 0x00, gsi: 0x04, flags: 0x08, resampleFd: 0x0c, size: 0x20 } as const;
export const IOEVENTFD = {
  datamatch: 0x00,
  addr: 0x08,
  len: 0x10,
  fd: 0x14,
  flags: 0x18,
  size: 0x40,
} as const;
export const IOEVENTFD_FLAG = { datamatch: 1 << 0, deassign: 1 << 2 } as const;
export const IRQFD_FLAG = { deassign: 1 << 0, resample: 1 << 1 } as const;

/** `struct kvm_irq_routing`, whose entries follow, and `struct kvm_irq_routing_entry`. */
export const IRQ_ROUTING = { count: 0x00, flags: 0x04, size: 0x08 } as const;
export const IRQ_ROUTING_ENTRY = {
  gsi: 0x00,
  type: 0x04,
  flags: 0x08,
  irqchip: 0x10,
  pin: 0x14,
  addressLow: 0x10,
  addressHigh: 0x14,
  data: 0x18,
  size: 0x30,
} as const;
export const IRQ_ROUTING_TYPE = { irqchip: 1, msi: 2 } as const;

/** `struct kvm_msi` */
export const MSI = { addressLow: 0x00, addressHigh: 0x04, data: 0x08, flags: 0x0c, size: 0x20 } as const;

/** `struct kvm_cpuid2`, whose entries follow the header. */
export const CPUID2 = { nent: 0x00, padding: 0x04, size: 0x08 } as const;
/** `struct kvm_cpuid_entry2` */
export const CPUID_ENTRY = {
  function: 0x00,
  index: 0x04,
  flags: 0x08,
  eax: 0x0c,
  ebx: 0x10,
  ecx: 0x14,
  edx: 0x18,
  size: 0x28,
} as const;

/** `struct kvm_msrs`, whose entries follow the header. */
export const MSRS = { nmsrs: 0x00, pad: 0x04, size: 0x08 } as const;
/** `struct kvm_msr_entry` */
export const MSR_ENTRY = { index: 0x00, reserved: 0x04, data: 0x08, size: 0x10 } as const;

/** `struct kvm_fpu` */
export const FPU = { fpr: 0x00, fcw: 0x80, fsw: 0x82, xmm: 0x98, mxcsr: 0x198, size: 0x1a0 } as const;

/** `struct kvm_lapic_state`: offsets in the local APIC's register page. (Intel SDM 3A table 11-1) */
export const LAPIC = { id: 0x20, lvtLint0: 0x350, lvtLint1: 0x360, size: 0x400 } as const;

/** `struct kvm_enable_cap` */
export const ENABLE_CAP = { cap: 0x00, flags: 0x04, args: 0x08, size: 0x68 } as const;
/**
 * Flags of KVM_CAP_X2APIC_API: 32-bit APIC ids in MSIs and LAPIC state; destination 0xFF is not a broadcast.
 */
export const X2APIC_API = { use32bitIds: 1 << 0, disableBroadcastQuirk: 1 << 1 } as const;

/** `struct kvm_mp_state` */
export const MP_STATE = { mpState: 0x00, size: 0x04 } as const;

/** `struct kvm_vcpu_events`; `flags` selects the optional fields that KVM_SET_VCPU_EVENTS writes. */
export const VCPU_EVENTS = {
  nmiInjected: 0x0c,
  nmiPending: 0x0d,
  nmiMasked: 0x0e,
  sipiVector: 0x10,
  flags: 0x14,
  size: 0x40,
} as const;
export const VCPUEVENT_VALID_SIPI_VECTOR = 2;

/** `struct kvm_run`, which KVM and Volt share, one per vCPU. The union of exit data starts at 0x20. */
export const RUN = {
  requestInterruptWindow: 0x00,
  immediateExit: 0x01,
  exitReason: 0x08,
  io: { direction: 0x20, size: 0x21, port: 0x22, count: 0x24, dataOffset: 0x28 },
  mmio: { physAddr: 0x20, data: 0x28, length: 0x30, isWrite: 0x34 },
  failEntry: { reason: 0x20, cpu: 0x28 },
  internal: { suberror: 0x20, ndata: 0x24, data: 0x28, insnSize: 0x30, insnBytes: 0x31 },
  systemEvent: { type: 0x20, ndata: 0x24, data: 0x28 },
  hardwareExitReason: 0x20,
  memoryFault: { flags: 0x20, gpa: 0x28, bytes: 0x30 },
  msr: { error: 0x20, reason: 0x28, index: 0x2c, data: 0x30 },
  hypercall: { nr: 0x20, args: 0x28, ret: 0x58 },
} as const;

/** KVM_EXIT_*: exit reasons of x86. */
export const EXIT = {
  unknown: 0,
  exception: 1,
  io: 2,
  hypercall: 3,
  debug: 4,
  hlt: 5,
  mmio: 6,
  irqWindowOpen: 7,
  shutdown: 8,
  failEntry: 9,
  intr: 10,
  setTpr: 11,
  tprAccess: 12,
  nmi: 16,
  internalError: 17,
  systemEvent: 24,
  ioapicEoi: 26,
  hyperv: 27,
  x86Rdmsr: 29,
  x86Wrmsr: 30,
  dirtyRingFull: 31,
  apResetHold: 32,
  x86BusLock: 33,
  xen: 34,
  notify: 37,
  memoryFault: 39,
} as const;

/** KVM_INTERNAL_ERROR_*: suberrors of KVM_EXIT_INTERNAL_ERROR. */
export const INTERNAL_ERROR = {
  emulation: 1,
  simultaneousException: 2,
  deliverEvent: 3,
  unexpectedExitReason: 4,
} as const;

/** KVM_SYSTEM_EVENT_*: types of KVM_EXIT_SYSTEM_EVENT. */
export const SYSTEM_EVENT = { shutdown: 1, reset: 2, crash: 3 } as const;

/** KVM_MP_STATE_* of x86. */
export const KVM_MP_STATE = {
  runnable: 0,
  uninitialized: 1,
  initReceived: 2,
  halted: 3,
  sipiReceived: 4,
} as const;

/** KVM_CAP_* */
export const CAP = {
  irqchip: 0,
  userMemory: 3,
  setTssAddr: 4,
  extCpuid: 7,
  nrVcpus: 9,
  mpState: 14,
  coalescedMmio: 15,
  irqfd: 32,
  pit2: 33,
  setBootCpuId: 34,
  ioeventfd: 36,
  setIdentityMapAddr: 37,
  getTscKhz: 61,
  maxVcpus: 66,
  tscDeadlineTimer: 72,
  signalMsi: 77,
  maxVcpuId: 128,
  x2apicApi: 129,
  immediateExit: 136,
  coalescedPio: 162,
} as const;

const KVMIO = 0xae;
export const WRITE = 1;
export const READ = 2;

/**
 * The _IOC encoding: direction in bits 31–30, argument size in 29–16, KVMIO in 15–8, number in 7–0.
 * (Linux include/uapi/asm-generic/ioctl.h)
 */
export function ioc(direction: number, number: number, size: number): number {
  return ((direction << 30) | (size << 16) | (KVMIO << 8) | number) >>> 0;
}

export const IOCTL = {
  getApiVersion: ioc(0, 0x00, 0),
  createVm: ioc(0, 0x01, 0),
  checkExtension: ioc(0, 0x03, 0),
  getVcpuMmapSize: ioc(0, 0x04, 0),
  getSupportedCpuid: ioc(READ | WRITE, 0x05, CPUID2.size),
  createVcpu: ioc(0, 0x41, 0),
  getDirtyLog: ioc(WRITE, 0x42, DIRTY_LOG.size),
  setUserMemoryRegion: ioc(WRITE, 0x46, USER_MEMORY_REGION.size),
  setTssAddr: ioc(0, 0x47, 0),
  setIdentityMapAddr: ioc(WRITE, 0x48, 8),
  createIrqchip: ioc(0, 0x60, 0),
  irqLine: ioc(WRITE, 0x61, IRQ_LEVEL.size),
  registerCoalesced: ioc(WRITE, 0x67, COALESCED_ZONE.size),
  unregisterCoalesced: ioc(WRITE, 0x68, COALESCED_ZONE.size),
  setGsiRouting: ioc(WRITE, 0x6a, IRQ_ROUTING.size),
  irqfd: ioc(WRITE, 0x76, IRQFD.size),
  createPit2: ioc(WRITE, 0x77, PIT_CONFIG.size),
  setBootCpuId: ioc(0, 0x78, 0),
  getPitState: ioc(READ, 0x9f, PIT_STATE.size),
  setPitState: ioc(WRITE, 0xa0, PIT_STATE.size),
  ioeventfd: ioc(WRITE, 0x79, IOEVENTFD.size),
  run: ioc(0, 0x80, 0),
  getRegs: ioc(READ, 0x81, REGS.size),
  setRegs: ioc(WRITE, 0x82, REGS.size),
  getSregs: ioc(READ, 0x83, SREGS.size),
  setSregs: ioc(WRITE, 0x84, SREGS.size),
  setMsrs: ioc(WRITE, 0x89, MSRS.size),
  setFpu: ioc(WRITE, 0x8d, FPU.size),
  getLapic: ioc(READ, 0x8e, LAPIC.size),
  setLapic: ioc(WRITE, 0x8f, LAPIC.size),
  setCpuid2: ioc(WRITE, 0x90, CPUID2.size),
  getMpState: ioc(READ, 0x98, MP_STATE.size),
  setMpState: ioc(WRITE, 0x99, MP_STATE.size),
  getVcpuEvents: ioc(READ, 0x9f, VCPU_EVENTS.size),
  setVcpuEvents: ioc(WRITE, 0xa0, VCPU_EVENTS.size),
  getTscKhz: ioc(0, 0xa3, 0),
  enableCap: ioc(WRITE, 0xa3, ENABLE_CAP.size),
  signalMsi: ioc(WRITE, 0xa5, MSI.size),
  kvmclockCtrl: ioc(0, 0xad, 0),
} as const;

/** MSR indices. (Intel SDM 4 table 2-2) */
export const MSR = {
  ia32MiscEnable: 0x1a0,
  ia32MtrrDefType: 0x2ff,
} as const;
