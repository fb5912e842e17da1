/** Configuration space of a virtio device on PCI. (Virtual I/O Device 1.2 §4.1.2, §4.1.4) */
import { viewOf } from '../../binary/bytes.ts';
import { buildFunction, msixCapability, type Capability } from '../../pci/config-builder.ts';
import { MAX_VECTORS, type FunctionShape } from '../../pci/function-state.ts';
import { CAPABILITY_ID } from '../../pci/regs.ts';
import { CONFIG_BYTES } from './device.ts';
import { DEVICE_TYPE } from './mmio.regs.ts';
import {
  NOTIFY_MULTIPLIER,
  PCI_BAR,
  PCI_CAP,
  PCI_CAP_TYPE,
  PCI_CFG_CAP,
  PCI_COMMON,
  PCI_DEVICE_BASE,
  PCI_NOTIFY_CAP,
  PCI_REVISION,
  PCI_VENDOR,
} from './pci.regs.ts';

/** Class codes, by which lspci and installers sort devices; drivers go by the id. (PCI Code and ID 1.11) */
const CLASS: Readonly<Record<number, number>> = {
  [DEVICE_TYPE.net]: 0x02_00_00,
  [DEVICE_TYPE.block]: 0x01_80_00,
  [DEVICE_TYPE.console]: 0x07_80_00,
  [DEVICE_TYPE.fs]: 0x01_80_00,
  [DEVICE_TYPE.vsock]: 0x02_80_00,
  [DEVICE_TYPE.pmem]: 0x05_80_00,
};
const CLASS_OTHER = 0xff_00_00;
const INTA = 1;
/** Bytes that software may write of the capability for access by configuration space: bar, offset, length. */
const CFG_WRITABLE = [
  [PCI_CAP.bar, 1],
  [PCI_CAP.offset, 8],
] as const;

export interface VirtioShape extends FunctionShape {
  /** Offset of the capability for access to the BAR by configuration space. (§4.1.4.9) */
  readonly accessCapability: number;
  /** Offset of the MSI-X capability. */
  readonly msixCapability: number;
}

/** Vectors of a device with so many queues: one for each, and one for configuration changes. */
function vectorsOf(queueCount: number): number {
  return Math.min(queueCount + 1, MAX_VECTORS);
}

export function virtioShape(type: number, queueCount: number): VirtioShape {
  const vectors = vectorsOf(queueCount);
  const region = (configType: number, offset: number, bytes: number) =>
    virtioCapability(PCI_CAP.size, { configType, offset, bytes });
  const built = buildFunction({
    identity: {
      vendorId: PCI_VENDOR,
      deviceId: PCI_DEVICE_BASE + type,
      revision: PCI_REVISION,
      classCode: CLASS[type] ?? CLASS_OTHER,
      subsystemVendorId: PCI_VENDOR,
      subsystemId: PCI_DEVICE_BASE + type,
    },
    barBytes: PCI_BAR.size,
    vectors,
    interruptPin: INTA,
    capabilities: [
      msixCapability(vectors, PCI_BAR.msixTable, PCI_BAR.msixPba),
      region(PCI_CAP_TYPE.common, PCI_BAR.common, PCI_COMMON.size),
      region(PCI_CAP_TYPE.isr, PCI_BAR.isr, 4),
      region(PCI_CAP_TYPE.device, PCI_BAR.device, CONFIG_BYTES),
      notifyCapability(queueCount),
      accessCapability(),
    ],
  });
  const [msix, , , , , access] = built.capabilityOffsets as [number, number, number, number, number, number];
  return { ...built, accessCapability: access, msixCapability: msix };
}

interface Region {
  readonly configType: number;
  readonly offset: number;
  readonly bytes: number;
}

function virtioCapability(size: number, { configType, offset, bytes }: Region): Capability {
  const body = new Uint8Array(size - 2);
  const view = viewOf(body);
  view.setUint8(PCI_CAP.length - 2, size);
  view.setUint8(PCI_CAP.configType - 2, configType);
  view.setUint32(PCI_CAP.offset - 2, offset, true);
  view.setUint32(PCI_CAP.bytes - 2, bytes, true);
  return { id: CAPABILITY_ID.vendorSpecific, body };
}

function notifyCapability(queueCount: number): Capability {
  const region = {
    configType: PCI_CAP_TYPE.notify,
    offset: PCI_BAR.notify,
    bytes: queueCount * NOTIFY_MULTIPLIER,
  };
  const capability = virtioCapability(PCI_NOTIFY_CAP.size, region);
  viewOf(capability.body).setUint32(PCI_NOTIFY_CAP.multiplier - 2, NOTIFY_MULTIPLIER, true);
  return capability;
}

function accessCapability(): Capability {
  const capability = virtioCapability(PCI_CFG_CAP.size, {
    configType: PCI_CAP_TYPE.pci,
    offset: 0,
    bytes: 0,
  });
  const writable = new Uint8Array(capability.body.length);
  for (const [offset, bytes] of CFG_WRITABLE) writable.fill(0xff, offset - 2, offset - 2 + bytes);
  return { ...capability, writable };
}
