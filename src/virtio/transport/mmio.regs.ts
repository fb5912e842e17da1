/** Registers and bits of virtio over MMIO, version 2. (Virtual I/O Device 1.2) */

/** Register offsets in a device's page, all 32 bits wide. Configuration space starts at 0x100. (§4.2.2) */
export const MMIO_REGISTER = {
  magicValue: 0x000,
  version: 0x004,
  deviceId: 0x008,
  vendorId: 0x00c,
  deviceFeatures: 0x010,
  deviceFeaturesSel: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSel: 0x024,
  queueSel: 0x030,
  queueNumMax: 0x034,
  queueNum: 0x038,
  queueReady: 0x044,
  queueNotify: 0x050,
  interruptStatus: 0x060,
  interruptAck: 0x064,
  status: 0x070,
  queueDescLow: 0x080,
  queueDescHigh: 0x084,
  queueDriverLow: 0x090,
  queueDriverHigh: 0x094,
  queueDeviceLow: 0x0a0,
  queueDeviceHigh: 0x0a4,
  shmSel: 0x0ac,
  shmLenLow: 0x0b0,
  shmLenHigh: 0x0b4,
  shmBaseLow: 0x0b8,
  shmBaseHigh: 0x0bc,
  queueReset: 0x0c0,
  configGeneration: 0x0fc,
  config: 0x100,
} as const;

/** "virt", little-endian. */
export const MMIO_MAGIC = 0x7472_6976;
export const MMIO_VERSION = 2;
/** "VOLT", little-endian. Drivers ignore it. */
export const MMIO_VENDOR = 0x544c_4f56;

/** Device status bits. (§2.1) */
export const STATUS = {
  acknowledgeBit: 0x01,
  driverBit: 0x02,
  driverOkBit: 0x04,
  featuresOkBit: 0x08,
  needsResetBit: 0x40,
  failedBit: 0x80,
  /** Bits that a driver may set: all but DEVICE_NEEDS_RESET. */
  driverMask: 0x8f,
} as const;

/** Bits of InterruptStatus and InterruptACK. (§4.2.2) */
export const INTERRUPT = { usedBufferBit: 0x1, configChangeBit: 0x2 } as const;

/** Reserved feature bits, common to all device types. (§6) */
export const FEATURE = {
  ringIndirectDesc: 28,
  ringEventIdx: 29,
  version1: 32,
  ringPacked: 34,
} as const;

/** Device types. (§5) */
export const DEVICE_TYPE = {
  net: 1,
  block: 2,
  console: 3,
  entropy: 4,
  balloon: 5,
  ninep: 9,
  vsock: 19,
  mem: 24,
  fs: 26,
  pmem: 27,
} as const;
