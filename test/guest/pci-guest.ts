/** Tiny drivers of the first device on the PCI bus: code that programs its BAR, its vectors and its queue. */
import { LAYOUT } from '../../src/machine/layout.ts';
import { CONFIG } from '../../src/pci/regs.ts';
import { PCI_BAR, PCI_COMMON as R } from '../../src/virtio/transport/pci.regs.ts';
import { asm, LOAD_ADDRESS, u32 } from './tiny-guest.ts';
import { AVAIL, USED } from './virtio-guest.ts';

const TABLE = LOAD_ADDRESS + 0x4000;
const QUEUE_SIZE = 8;
const LOCAL_APIC = LAYOUT.localApic.address;
const IO_APIC = LAYOUT.ioApic.address;
/** ECAM of 00:01.0. */
const CONFIG_SPACE = LAYOUT.pciEcam.address + 0x8000;
/** Where Volt places the BAR of 00:01.0. */
export const BAR = LAYOUT.mmioHole.address + PCI_BAR.size;
/** Of 00:01.0. */
const PIN_GSI = 17;
const VECTOR = 0x40;
const MSIX_CONTROL = 0x40;

const store16 = (address: number) => [0x66, 0xa3, ...u32(address)];
const read8 = (address: number) => [0xa0, ...u32(address)];
/** Bit 0 of EAX becomes the zero flag's opposite: xor eax, 1. */
const UNTIL_ONE = [0x83, 0xf0, 0x01];

function writer(bar: number) {
  const at = (offset: number) => bar + PCI_BAR.common + offset;
  return {
    byte: (offset: number, value: number) => [...asm.loadEax(value), ...asm.storeAl(at(offset))],
    half: (offset: number, value: number) => [...asm.loadEax(value), ...store16(at(offset))],
    word: (offset: number, value: number) => [...asm.loadEax(value), ...asm.storeEax(at(offset))],
  };
}

export const pciAsm = {
  readConfig: (offset: number) => asm.readEax(CONFIG_SPACE + offset),
  writeConfig: (offset: number, value: number) => [
    ...asm.loadEax(value),
    ...asm.storeEax(CONFIG_SPACE + offset),
  ],
  /** Memory space and bus mastering on. */
  enable: () => pciAsm.writeConfig(CONFIG.command, 6),
  readBar: (offset: number, bar = BAR) => asm.readEax(bar + offset),
  writeBar: (offset: number, value: number, bar = BAR) => [
    ...asm.loadEax(value),
    ...asm.storeEax(bar + offset),
  ],
  /** Agrees on VERSION_1, gives queue 0 vector 1, sets it up, and says DRIVER_OK. */
  start: (bar = BAR, vector = 1) => {
    const { byte, half, word } = writer(bar);
    return [
      ...[...byte(R.deviceStatus, 0), ...byte(R.deviceStatus, 1), ...byte(R.deviceStatus, 3)],
      ...[...word(R.driverFeatureSelect, 1), ...word(R.driverFeature, 1), ...byte(R.deviceStatus, 11)],
      ...[...half(R.queueSelect, 0), ...half(R.queueSize, QUEUE_SIZE), ...half(R.queueVector, vector)],
      ...[...word(R.queueDescLow, TABLE), ...word(R.queueDriverLow, AVAIL), ...word(R.queueDeviceLow, USED)],
      ...[...half(R.queueEnable, 1), ...byte(R.deviceStatus, 15)],
    ];
  },
  /** Makes chains available up to index `count`, which the image holds already, and notifies the device. */
  offer: (count: number, bar = BAR) => [
    ...[...asm.loadEax(count * 0x1_0000), ...asm.storeEax(AVAIL)],
    ...[...asm.loadEax(0), ...store16(bar + PCI_BAR.notify)],
  ],
  waitUsed: (count: number) => asm.untilZero([...asm.readEax(USED), 0x2d, ...u32(count * 0x1_0000)]),
  /** MSI-X on, with vector 1 of the table to VECTOR of APIC 0; interrupts stay off. */
  enableMsix: (masked = 0, bar = BAR) => [
    ...[...asm.loadEax(0x1ff), ...asm.storeEax(LOCAL_APIC + 0xf0)],
    ...[0xfee0_0000, 0, VECTOR, masked].flatMap((value, i) =>
      pciAsm.writeBar(PCI_BAR.msixTable + 16 + 4 * i, value, bar),
    ),
    ...[...pciAsm.readConfig(MSIX_CONTROL), 0x0d, ...u32(0x8000_0000)], // or eax, enable
    ...asm.storeEax(CONFIG_SPACE + MSIX_CONTROL),
  ],
  maskVector: (masked: number) => pciAsm.writeBar(PCI_BAR.msixTable + 16 + 12, masked),
  /** Waits until VECTOR is pending in this CPU's APIC. */
  waitInterrupt: () => asm.untilZero([...pciAsm.readPending(), ...UNTIL_ONE]),
  /** EAX = 32 bits of the APIC's IRR, of which bit 0 is VECTOR. */
  readPending: () => asm.readEax(LOCAL_APIC + 0x200 + 0x10 * (VECTOR / 32)),
  /** The pin's interrupt to VECTOR of APIC 0, level-triggered and active low. */
  routePin: () => {
    const ioApic = (index: number, value: number) => [
      ...[...asm.loadEax(index), ...asm.storeEax(IO_APIC)],
      ...[...asm.loadEax(value), ...asm.storeEax(IO_APIC + 0x10)],
    ];
    return [
      ...[...asm.loadEax(0x1ff), ...asm.storeEax(LOCAL_APIC + 0xf0)],
      ...ioApic(0x11 + 2 * PIN_GSI, 0),
      ...ioApic(0x10 + 2 * PIN_GSI, 0xa000 | VECTOR),
    ];
  },
  readIsr: () => read8(BAR + PCI_BAR.isr),
} as const;
