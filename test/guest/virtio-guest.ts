/**
 * Tiny virtio drivers: rings laid out in the guest's image, and code that sets up one queue, notifies it and
 * waits. The first device lies at the first place of the bus.
 */
import { putU64, viewOf } from '../../src/binary/bytes.ts';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { LAYOUT } from '../../src/machine/layout.ts';
import { VIRTIO_GSIS } from '../../src/machine/irqs.ts';
import { asm, LOAD_ADDRESS, program } from './tiny-guest.ts';

const DEVICE = LAYOUT.virtio.address;
const QUEUE_SIZE = 8;
export const SECTOR = 512;
/** From the start of the image: its code, then pages for the rings, then data for the guest's own use. */
const CODE_BYTES = 0x4000;
const TABLE = LOAD_ADDRESS + CODE_BYTES;
export const AVAIL = TABLE + 0x1000;
export const USED = TABLE + 0x2000;
export const DATA = TABLE + 0x3000;

export interface GuestBuffer {
  readonly address: number;
  readonly length: number;
  readonly writable?: boolean;
}

export const virtioAsm = {
  read: (register: number) => asm.readEax(DEVICE + register),
  write: (register: number, value: number) => [...asm.loadEax(value), ...asm.storeEax(DEVICE + register)],
  /**
   * Resets the device, agrees on VERSION_1 and features of the low half, sets up queue 0, and says DRIVER_OK.
   */
  start: (features = 0) => {
    const { write } = virtioAsm;
    return [
      ...[...write(R.status, 0), ...write(R.status, 1), ...write(R.status, 3)],
      ...[...write(R.driverFeaturesSel, 0), ...write(R.driverFeatures, features)],
      ...[...write(R.driverFeaturesSel, 1), ...write(R.driverFeatures, 1)],
      ...[...write(R.status, 11), ...write(R.queueSel, 0), ...write(R.queueNum, QUEUE_SIZE)],
      ...[
        ...write(R.queueDescLow, TABLE),
        ...write(R.queueDriverLow, AVAIL),
        ...write(R.queueDeviceLow, USED),
      ],
      ...[...write(R.queueReady, 1), ...write(R.status, 15)],
    ];
  },
  /** Makes chains available up to index `count`, which the image holds already, and notifies the device. */
  offer: (count: number) => [
    ...[...asm.loadEax(count * 0x1_0000), ...asm.storeEax(AVAIL)],
    ...virtioAsm.write(R.queueNotify, 0),
  ],
  /** Waits until the device has handed back `count` chains; sub eax, imm32. */
  waitUsed: (count: number) => asm.untilZero([...asm.readEax(USED), 0x2d, ...word(count * 0x1_0000)]),
  /** Waits until the interrupt of the first device is pending in this CPU's APIC, as vector 0x40. */
  waitInterrupt: () => asm.untilZero([...asm.readEax(APIC_IRR_0X40), 0x83, 0xf0, 0x01]), // xor eax, 1
  /** I/O APIC pin of the first device to vector 0x40 of APIC 0, edge; local APIC on. Interrupts stay off. */
  routeInterrupt: () => {
    const pin = VIRTIO_GSIS[0];
    const ioApic = (index: number, value: number) => [
      ...[...asm.loadEax(index), ...asm.storeEax(IO_APIC)],
      ...[...asm.loadEax(value), ...asm.storeEax(IO_APIC + 0x10)],
    ];
    return [
      ...[...asm.loadEax(0x1ff), ...asm.storeEax(LOCAL_APIC + 0xf0)],
      ...ioApic(0x11 + 2 * pin, 0),
      ...ioApic(0x10 + 2 * pin, 0x40),
    ];
  },
} as const;

const IO_APIC = LAYOUT.ioApic.address;
const LOCAL_APIC = LAYOUT.localApic.address;
const APIC_IRR_0X40 = LOCAL_APIC + 0x200 + 0x10 * (0x40 / 32);

function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

/**
 * An image with `code` first, then a split ring in which chain i of `chains` is made of `chains[i]`, in
 * order, and `data` at DATA. At most 8 buffers in all. `order` says which chain each entry of the available
 * ring names.
 */
export function virtioImage(
  code: readonly (readonly number[])[],
  chains: readonly (readonly GuestBuffer[])[],
  data: Uint8Array,
  order: readonly number[] = chains.map((_, i) => i),
): Uint8Array {
  const machineCode = program(...code);
  if (machineCode.length > CODE_BYTES) throw new Error(`${machineCode.length} bytes of code do not fit`);
  const image = new Uint8Array(CODE_BYTES + 0x3000 + data.length);
  const view = viewOf(image);
  image.set(machineCode);
  let index = 0;
  const heads = chains.map((chain) => {
    const head = index;
    chain.forEach(({ address, length, writable }, j) => {
      const at = TABLE - LOAD_ADDRESS + 16 * index;
      const more = j + 1 < chain.length;
      putU64(view, at, address);
      view.setUint32(at + 8, length, true);
      view.setUint16(at + 12, (more ? 1 : 0) | (writable ? 2 : 0), true);
      view.setUint16(at + 14, more ? index + 1 : 0, true);
      index++;
    });
    return head;
  });
  order.forEach((chain, i) => view.setUint16(AVAIL - LOAD_ADDRESS + 4 + 2 * i, heads[chain]!, true));
  image.set(data, DATA - LOAD_ADDRESS);
  return image;
}

/** Header, data and status of a block request at `at`; the chain of it, and its bytes. */
export function blockRequest(at: number, type: number, sector: number, data: Uint8Array | number) {
  const toDevice = typeof data !== 'number';
  const length = toDevice ? data.length : data;
  const bytes = new Uint8Array(16 + length + 1);
  new DataView(bytes.buffer).setUint32(0, type, true);
  new DataView(bytes.buffer).setUint32(8, sector, true);
  if (toDevice) bytes.set(data, 16);
  bytes[16 + length] = 0xaa;
  const chain: GuestBuffer[] = [
    { address: at, length: 16 },
    ...(length > 0 ? [{ address: at + 16, length, writable: !toDevice }] : []),
    { address: at + 16 + length, length: 1, writable: true },
  ];
  return { chain, bytes };
}
