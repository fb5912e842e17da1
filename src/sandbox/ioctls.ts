/**
 * The ioctls of a running guest, by number. `test/unit/sandbox/filter.test.ts` compares those of KVM with
 * kvm/abi.ts, which this room cannot import.
 */

/** What the thread of a vCPU asks KVM. (linux/kvm.h; Documentation/virt/kvm/api.rst) */
export const VCPU_KVM_IOCTL = {
  run: 0xae80,
  getRegs: 0x8090_ae81,
  getSregs: 0x8138_ae83,
  getMpState: 0x8004_ae98,
  getVcpuEvents: 0x8040_ae9f,
  irqLine: 0x4008_ae61,
  createPit2: 0x4040_ae77,
  getPitState: 0x8070_ae9f,
  setPitState: 0x4070_aea0,
} as const;

/** What it asks for a guest with a PCI bus, when the guest programs interrupts and moves addresses. */
export const PCI_KVM_IOCTL = {
  setGsiRouting: 0x4008_ae6a,
  irqfd: 0x4020_ae76,
  ioeventfd: 0x4040_ae79,
} as const;

/**
 * What the main thread asks besides: to build the machine again after its guest's reset, and to add vCPUs.
 */
export const MACHINE_KVM_IOCTL = {
  getApiVersion: 0xae00,
  createVm: 0xae01,
  checkExtension: 0xae03,
  getVcpuMmapSize: 0xae04,
  getSupportedCpuid: 0xc008_ae05,
  createVcpu: 0xae41,
  getDirtyLog: 0x4010_ae42,
  setUserMemoryRegion: 0x4020_ae46,
  setTssAddr: 0xae47,
  setIdentityMapAddr: 0x4008_ae48,
  createIrqchip: 0xae60,
  registerCoalesced: 0x4010_ae67,
  unregisterCoalesced: 0x4010_ae68,
  ...PCI_KVM_IOCTL,
  setBootCpuId: 0xae78,
  setRegs: 0x4090_ae82,
  setSregs: 0x4138_ae84,
  setMsrs: 0x4008_ae89,
  setFpu: 0x41a0_ae8d,
  getLapic: 0x8400_ae8e,
  setLapic: 0x4400_ae8f,
  setCpuid2: 0x4008_ae90,
  setMpState: 0x4004_ae99,
  setVcpuEvents: 0x4040_aea0,
  getTscKhz: 0xaea3,
  enableCap: 0x4068_aea3,
  signalMsi: 0x4020_aea5,
  kvmclockCtrl: 0xaead,
} as const;

/** Breakpoints and single steps of a guest, for gdb. */
export const SET_GUEST_DEBUG = 0x4048_ae9b;

/** What the main thread reads of paused vCPUs and of the machine for a snapshot. */
export const SNAPSHOT_KVM_IOCTL = {
  getMsrIndexList: 0xc004_ae02,
  getIrqchip: 0xc208_ae62,
  getClock: 0x8030_ae7c,
  getMsrs: 0xc008_ae88,
  getFpu: 0x81a0_ae8c,
  getCpuid2: 0xc008_ae91,
  getDebugRegs: 0x8080_aea1,
  getXsave: 0x9000_aea4,
  getXcrs: 0x8188_aea6,
  getNestedState: 0xc080_aebe,
  getSregs2: 0x8140_aecc,
  getXsave2: 0x9000_aecf,
  getDeviceAttribute: 0x4018_aee2,
} as const;

/** Of terminals; TIOCSTI, which types for the user, is not among them. (asm-generic/ioctls.h) */
export const TERMINAL_IOCTL = {
  getAttributes: 0x5401,
  setAttributes: 0x5402,
  getForegroundGroup: 0x540f,
  getWindowSize: 0x5413,
  getPtyNumber: 0x8004_5430,
} as const;

/** What a guest's network driver negotiates with its device. (linux/if_tun.h) */
export const TAP_IOCTL = {
  setOffload: 0x4004_54d0,
  setHeaderSize: 0x4004_54d8,
  setQueue: 0x4004_54d9,
} as const;

/** The kernel's network back-end, for descriptors that were opened before the guest started. (linux/vhost.h) */
export const VHOST_IOCTL = {
  setFeatures: 0x4008_af00,
  setMemTable: 0x4008_af03,
  setVringNum: 0x4008_af10,
  setVringAddr: 0x4028_af11,
  setVringBase: 0x4008_af12,
  getVringBase: 0xc008_af12,
  setVringKick: 0x4008_af20,
  setVringCall: 0x4008_af21,
  setVringErr: 0x4008_af22,
  netSetBackend: 0x4008_af30,
} as const;

/** Discards blocks of a disk that is a block device. (linux/fs.h) */
export const BLKDISCARD = 0x1277;
/** BLKGETSIZE64, BLKSSZGET, BLKROGET (uapi linux/fs.h) */
export const BLOCK_SIZE_IOCTL = { bytes: 0x8008_1272, blockBytes: 0x1268, readOnly: 0x125e } as const;
