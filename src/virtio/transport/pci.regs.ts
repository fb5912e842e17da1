/** Virtio over PCI. (Virtual I/O Device 1.2 §4.1) Byte offsets, size last. */

export const PCI_VENDOR = 0x1af4;
/** Added to the device type. (§4.1.2.1) */
export const PCI_DEVICE_BASE = 0x1040;
/** Non-transitional devices have 1 or more. (§4.1.2.1) */
export const PCI_REVISION = 1;

/** `struct virtio_pci_cap` (§4.1.4) */
export const PCI_CAP = {
  id: 0,
  next: 1,
  length: 2,
  configType: 3,
  bar: 4,
  offset: 8,
  bytes: 12,
  size: 16,
} as const;
/** `struct virtio_pci_notify_cap` (§4.1.4.4) */
export const PCI_NOTIFY_CAP = { multiplier: 16, size: 20 } as const;
/** `struct virtio_pci_cfg_cap` (§4.1.4.9) */
export const PCI_CFG_CAP = { data: 16, size: 20 } as const;
export const PCI_CAP_TYPE = { common: 1, notify: 2, isr: 3, device: 4, pci: 5 } as const;

/** `struct virtio_pci_common_cfg` (§4.1.4.3) */
export const PCI_COMMON = {
  deviceFeatureSelect: 0x00,
  deviceFeature: 0x04,
  driverFeatureSelect: 0x08,
  driverFeature: 0x0c,
  configVector: 0x10,
  numQueues: 0x12,
  deviceStatus: 0x14,
  configGeneration: 0x15,
  queueSelect: 0x16,
  queueSize: 0x18,
  queueVector: 0x1a,
  queueEnable: 0x1c,
  queueNotifyOff: 0x1e,
  queueDescLow: 0x20,
  queueDescHigh: 0x24,
  queueDriverLow: 0x28,
  queueDriverHigh: 0x2c,
  queueDeviceLow: 0x30,
  queueDeviceHigh: 0x34,
  queueNotifyData: 0x38,
  queueReset: 0x3a,
  size: 0x40,
} as const;
/** VIRTIO_MSI_NO_VECTOR */
export const NO_VECTOR = 0xffff;

/** What is where in BAR 0: one page for each structure. */
export const PCI_BAR = {
  common: 0x0000,
  isr: 0x1000,
  device: 0x2000,
  msixTable: 0x3000,
  msixPba: 0x4000,
  notify: 0x5000,
  size: 0x8000,
} as const;
/** Bytes between the notify addresses of two queues: notify_off_multiplier. (§4.1.4.4) */
export const NOTIFY_MULTIPLIER = 4;
