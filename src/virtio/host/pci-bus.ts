/**
 * The PCI bus as one thread sees it: host bridge, virtio devices, and what their registers mean for KVM. Runs under the
 * bus lock; accesses allocate nothing.
 */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { signalEventFd } from '../../ffi/epoll.ts';
import { InterruptWiring } from '../../kvm/interrupt-wiring.ts';
import { FIRST_MSI_GSI, GSIS_PER_SLOT } from '../../machine/irqs.ts';
import { LAYOUT } from '../../machine/layout.ts';
import {
  DEVICES_PER_BUS,
  ECAM_BUS_BYTES,
  offsetOfConfigAddress,
  slotOfConfigAddress,
  slotOfEcam,
} from '../../pci/address.ts';
import {
  barAddress,
  decodesMemory,
  FUNCTION_WORD,
  maskOf,
  readConfigSpace,
  ROUTE_WORDS,
  writeConfigSpace,
} from '../../pci/function-state.ts';
import { hostBridgeShape } from '../../pci/host-bridge.ts';
import {
  ejectedSlot,
  noteEjected,
  PCI_HOTPLUG_WORDS,
  PCI_REQUEST,
  pciHotplugRead,
  pciHotplugWrite,
  type PciRequest,
} from '../../pci/hotplug.ts';
import { hasRoute } from '../../pci/msix.ts';
import { ECAM_FUNCTION_BYTES, NO_FUNCTION } from '../../pci/regs.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord, viewDeviceState } from '../transport/device-state.ts';
import { readPciBar, readPciConfig, writePciBar, writePciConfig, type PciDevice } from '../transport/pci.ts';
import { detachInterrupts, isVectorPending, routeInterrupts } from '../transport/pci-interrupts.ts';
import { NOTIFY_MULTIPLIER, PCI_BAR } from '../transport/pci.regs.ts';
import { virtioShape } from '../transport/pci-shape.ts';
import { createSyncEffects } from './bus.ts';

/** One slot that has a device or can get one. */
export interface PciSlotLink {
  readonly slot: number;
  /** By FUNCTION_WORD. */
  readonly words: SharedArrayBuffer;
  /** The device's state, with room for so many queues. */
  readonly state: SharedArrayBuffer;
  readonly queueCapacity: number;
}

export interface PciBusLink {
  readonly vmFd: number;
  readonly buses: number;
  /** The words of the bus, by BUS_WORD, and those of the host bridge. */
  readonly words: SharedArrayBuffer;
  readonly bridge: SharedArrayBuffer;
  readonly slots: readonly PciSlotLink[];
}

/** The hotplug registers follow CONFIG_ADDRESS. */
export const BUS_WORD = { configAddress: 0, hotplug: 1, size: 1 + PCI_HOTPLUG_WORDS } as const;

/** What the bus asks KVM. */
export type BusWiring = Pick<InterruptWiring, keyof InterruptWiring>;

interface BusDevice extends PciDevice {
  readonly firstGsi: number;
}

const F = FUNCTION_WORD;
const ECAM = LAYOUT.pciEcam.address;

export class PciBus {
  readonly #words: Int32Array;
  readonly #hotplug: Int32Array;
  readonly #bridge: Int32Array;
  readonly #bridgeWritable = hostBridgeShape().writable;
  readonly #ecamEnd: number;
  readonly #bySlot: (BusDevice | undefined)[] = [];
  readonly #devices: BusDevice[] = [];
  readonly #wiring: BusWiring;
  /** What `routeInterrupts` asks of this bus. */
  readonly #effects;

  constructor(
    link: PciBusLink,
    isEnding: () => boolean,
    wiring: BusWiring = new InterruptWiring(link.vmFd, link.slots.length * GSIS_PER_SLOT),
  ) {
    this.#words = new Int32Array(link.words);
    this.#hotplug = this.#words.subarray(BUS_WORD.hotplug);
    this.#bridge = new Int32Array(link.bridge);
    this.#ecamEnd = ECAM + link.buses * ECAM_BUS_BYTES;
    this.#wiring = wiring;
    this.#effects = {
      setRoutes: () => this.#setRoutes(),
      attach: (fd: number, gsi: number) => wiring.attach(fd, gsi),
      detach: (fd: number, gsi: number) => wiring.detach(fd, gsi),
      isSignalled: (fd: number) => wiring.isSignalled(fd),
      take: (fd: number) => wiring.take(fd),
      signal: (fd: number) => wiring.signal(fd),
    };
    for (const each of link.slots) {
      const device = this.#createDevice(each, isEnding);
      this.#bySlot[each.slot] = device;
      this.#devices.push(device);
    }
  }

  /** Whether configuration spaces or the BAR of a device are at `address`. */
  claims(address: number): boolean {
    return (address >= ECAM && address < this.#ecamEnd) || this.#deviceAt(address) !== undefined;
  }

  /** Reads 1, 2 or 4 bytes of memory that `claims` has. */
  read(address: number, size: number): number {
    if (address >= ECAM && address < this.#ecamEnd) {
      const offset = address - ECAM;
      return this.#readConfig(slotOfEcam(offset), offset % ECAM_FUNCTION_BYTES, size);
    }
    const device = this.#deviceAt(address);
    return device ? readPciBar(device, address - barAddress(device.words), size) : maskOf(size);
  }

  write(address: number, size: number, value: number): void {
    if (address >= ECAM && address < this.#ecamEnd) {
      const offset = address - ECAM;
      this.#writeConfig(slotOfEcam(offset), offset % ECAM_FUNCTION_BYTES, size, value);
      return;
    }
    const device = this.#deviceAt(address);
    if (device) writePciBar(device, address - barAddress(device.words), size, value);
  }

  /** CONFIG_ADDRESS of mechanism #1. (PCI 3.0 §3.2.2.3.2) */
  get configAddress(): number {
    return this.#words[BUS_WORD.configAddress]! >>> 0;
  }

  set configAddress(value: number) {
    this.#words[BUS_WORD.configAddress] = value & 0x80ff_fffc;
  }

  /** Reads CONFIG_DATA at byte `port`, 0 to 3. */
  readData(port: number, size: number): number {
    const address = this.configAddress;
    return this.#readConfig(slotOfConfigAddress(address), offsetOfConfigAddress(address, port), size);
  }

  writeData(port: number, size: number, value: number): void {
    const address = this.configAddress;
    this.#writeConfig(slotOfConfigAddress(address), offsetOfConfigAddress(address, port), size, value);
  }

  readHotplug(offset: number): number {
    return pciHotplugRead(this.#hotplug, offset);
  }

  /** An ejected device answers no more once this returns; its thread and its files are the main thread's to end. */
  writeHotplug(offset: number, value: number): PciRequest {
    const request = pciHotplugWrite(this.#hotplug, offset, value);
    if (request !== PCI_REQUEST.eject) return request;
    const slot = ejectedSlot(this.#hotplug);
    const device = this.#bySlot[slot];
    if (!device || device.words[F.present] === 0) return PCI_REQUEST.none;
    this.releaseSlot(slot);
    device.words[F.present] = 0;
    noteEjected(this.#hotplug, slot);
    return request;
  }

  /** Tells KVM what the registers of a slot's device say, as after a restore. Throws SyscallError. */
  applySlot(slot: number): void {
    const device = this.#bySlot[slot]!;
    this.#placeNotifications(device);
    routeInterrupts(device, this.#effects);
  }

  /** Before the device of a slot is removed: KVM signals none of its eventfds any more, nor heeds them. */
  releaseSlot(slot: number): void {
    const device = this.#bySlot[slot]!;
    this.#removeNotifications(device);
    detachInterrupts(device, this.#effects);
  }

  /** Makes signals of `fd` assert the interrupt pin of a device until its driver has handled it. Throws SyscallError. */
  attachPin(fd: number, gsi: number, resampleFd: number): void {
    this.#wiring.attachLevel(fd, gsi, resampleFd);
  }

  #createDevice(
    { slot, words, state: buffer, queueCapacity }: PciSlotLink,
    isEnding: () => boolean,
  ): BusDevice {
    const state = viewDeviceState(buffer, queueCapacity);
    const device: BusDevice = {
      words: new Int32Array(words),
      shape: virtioShape(0, 1),
      state,
      firstGsi: FIRST_MSI_GSI + slot * GSIS_PER_SLOT,
      effects: {
        ...createSyncEffects(state, isEnding),
        notify: (queue) => signalEventFd(state.words[queueWord(queue, QUEUE_WORD.notifyFd)]!),
        routeInterrupts: () => routeInterrupts(device, this.#effects),
        isPending: (vector) => isVectorPending(device, vector, this.#effects),
        placeNotifications: () => this.#placeNotifications(device),
        assertPin: () => signalEventFd(state.words[DEVICE_WORD.pinFd]!),
      },
    };
    return device;
  }

  #deviceAt(address: number): BusDevice | undefined {
    for (const device of this.#devices) {
      if (!decodesMemory(device.words)) continue;
      const start = barAddress(device.words);
      if (address >= start && address < start + PCI_BAR.size) return device;
    }
    return undefined;
  }

  #readConfig(slot: number, offset: number, size: number): number {
    if (slot === 0) return readConfigSpace(this.#bridge, offset, size);
    const device = this.#bySlot[slot];
    if (!device || device.words[F.present] === 0) return (NO_FUNCTION & maskOf(size)) >>> 0;
    return readPciConfig(device, offset, size);
  }

  #writeConfig(slot: number, offset: number, size: number, value: number): void {
    if (slot === 0) {
      writeConfigSpace(this.#bridge, this.#bridgeWritable, offset, size, value);
      return;
    }
    const device = this.#bySlot[slot];
    if (device && device.words[F.present] !== 0) writePciConfig(device, offset, size, value);
  }

  /**
   * Lets the notify addresses follow the BAR. While a device does not decode its BAR, which is how software finds its
   * size, they stay, unless another device takes the place.
   */
  #placeNotifications(device: BusDevice): void {
    const { words, state } = device;
    if (!decodesMemory(words)) return;
    const base = barAddress(words);
    if (words[F.notifiable] !== 0 && notifyBase(words) === base) return;
    this.#removeNotifications(device);
    for (const other of this.#devices) {
      if (other.words[F.notifiable] === 0 || Math.abs(notifyBase(other.words) - base) >= PCI_BAR.size)
        continue;
      // Two devices at one address: the first one keeps it, and the other is notified by exits.
      if (decodesMemory(other.words) && barAddress(other.words) === notifyBase(other.words)) return;
      this.#removeNotifications(other);
    }
    words[F.notifyLow] = base % TWO_POW_32;
    words[F.notifyHigh] = Math.floor(base / TWO_POW_32);
    words[F.notifiable] = 1;
    for (let queue = 0; queue < state.words[DEVICE_WORD.queueCount]!; queue++) {
      const fd = state.words[queueWord(queue, QUEUE_WORD.notifyFd)]!;
      this.#wiring.addNotification(base + PCI_BAR.notify + queue * NOTIFY_MULTIPLIER, fd);
    }
  }

  #removeNotifications({ words, state }: BusDevice): void {
    if (words[F.notifiable] === 0) return;
    words[F.notifiable] = 0;
    const base = notifyBase(words);
    for (let queue = 0; queue < state.words[DEVICE_WORD.queueCount]!; queue++) {
      const fd = state.words[queueWord(queue, QUEUE_WORD.notifyFd)]!;
      this.#wiring.removeNotification(base + PCI_BAR.notify + queue * NOTIFY_MULTIPLIER, fd);
    }
  }

  #setRoutes(): void {
    const wiring = this.#wiring;
    wiring.beginRoutes();
    for (const { words, firstGsi } of this.#devices) {
      if (words[F.present] === 0) continue;
      for (let vector = 0; vector < words[F.vectors]!; vector++) {
        if (!hasRoute(words, vector)) continue;
        const at = F.routed + vector * ROUTE_WORDS;
        wiring.addMessageRoute(firstGsi + vector, words[at]!, words[at + 1]!, words[at + 2]!);
      }
    }
    wiring.commitRoutes();
  }
}

/** Where a device's notify addresses are ioeventfds. */
function notifyBase(words: Int32Array): number {
  return (words[F.notifyLow]! >>> 0) + (words[F.notifyHigh]! >>> 0) * TWO_POW_32;
}

/** Number of slots on so many buses. */
export function slotsOfBuses(buses: number): number {
  return buses * DEVICES_PER_BUS;
}
