/** The PCI bus as any guest code can reach it, with a KVM that looks whether what it is asked makes sense. */
import { FIRST_MSI_GSI, GSIS_PER_SLOT } from '../../../src/machine/irqs.ts';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { PCI_HOTPLUG } from '../../../src/machine/ports.ts';
import {
  barAddress,
  createFunctionWords,
  decodesMemory,
  FUNCTION_WORD,
  placeBar,
  resetFunction,
} from '../../../src/pci/function-state.ts';
import { noteInserted, requestRemoval } from '../../../src/pci/hotplug.ts';
import { CONFIG } from '../../../src/pci/regs.ts';
import { hostBridgeShape } from '../../../src/pci/host-bridge.ts';
import { BUS_WORD, PciBus, type BusWiring, type PciSlotLink } from '../../../src/virtio/host/pci-bus.ts';
import { restorePci, savePci } from '../../../src/virtio/host/save-pci.ts';
import {
  createDeviceState,
  DEVICE_WORD,
  QUEUE_WORD,
  queueWord,
  type DeviceState,
} from '../../../src/virtio/transport/device-state.ts';
import { PCI_BAR } from '../../../src/virtio/transport/pci.regs.ts';
import { virtioShape, type VirtioShape } from '../../../src/virtio/transport/pci-shape.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const SLOTS = [1, 2, 3, 34] as const;
const SIZES = [1, 2, 4] as const;
const FDS_OF_SLOT = 100;
/** Address of an interrupt, and others that a driver may write to a table or a BAR. */
const VALUES = [
  0xfee0_0000, 0xfee0_f00c, 0, 1, 2, 4, 0xffff_ffff, 0xc000_8000, 0xc001_0000, 0xe000_0000, 0xffff,
];
const ECAM = LAYOUT.pciEcam.address;

/** KVM's irqfds, ioeventfds and routes, and the counters of eventfds. Throws for what would be an error or a leak. */
class CheckingWiring implements BusWiring {
  readonly irqfds = new Map<number, number>();
  readonly notifications = new Map<number, number>();
  readonly counters = new Set<number>();
  /** By GSI: whether KVM has a route for it. */
  routes = new Set<number>();
  #next = new Set<number>();

  reset(): void {
    this.irqfds.clear();
    this.notifications.clear();
    this.counters.clear();
    this.routes = new Set();
  }

  attach(fd: number, gsi: number): void {
    if (this.irqfds.has(fd)) throw new Error(`eventfd ${fd} is attached twice`);
    if (!this.routes.has(gsi)) throw new Error(`eventfd ${fd} is attached to GSI ${gsi}, which has no route`);
    this.irqfds.set(fd, gsi);
  }

  detach(fd: number, gsi: number): void {
    if (this.irqfds.get(fd) !== gsi)
      throw new Error(`eventfd ${fd} is detached from GSI ${gsi}, where it is not`);
    this.irqfds.delete(fd);
  }

  attachLevel(): void {}

  addNotification(address: number, fd: number): boolean {
    if (this.notifications.has(address)) return false;
    this.notifications.set(address, fd);
    return true;
  }

  removeNotification(address: number, fd: number): void {
    if (this.notifications.get(address) === fd) this.notifications.delete(address);
  }

  beginRoutes(): void {
    this.#next = new Set();
  }

  addMessageRoute(gsi: number, low: number, high: number, _data: number): void {
    if (low >>> 20 !== 0xfee || (high & 0xff) !== 0)
      throw new Error(`GSI ${gsi} is routed to ${low} ${high}`);
    const vector = (gsi - FIRST_MSI_GSI) % GSIS_PER_SLOT;
    if (gsi < FIRST_MSI_GSI || gsi > 4095 || vector < 0) throw new Error(`${gsi} is no GSI of a vector`);
    this.#next.add(gsi);
  }

  commitRoutes(): void {
    this.routes = this.#next;
  }

  isSignalled(fd: number): boolean {
    return this.counters.has(fd);
  }

  take(fd: number): boolean {
    return this.counters.delete(fd);
  }

  signal(fd: number): void {
    this.counters.add(fd);
  }
}

interface Plugged {
  readonly link: PciSlotLink;
  readonly words: Int32Array;
  readonly state: DeviceState;
  readonly shape: VirtioShape;
  /** Words of the state before any driver. */
  readonly initial: Int32Array;
}

/** As it is after power-on: buffers are made once, because an input takes less time than their making. */
function powerOn({ words, state, shape, link, initial }: Plugged): void {
  state.words.set(initial);
  resetFunction(words, shape);
  placeBar(words, LAYOUT.mmioHole.address + link.slot * PCI_BAR.size);
  words[FUNCTION_WORD.present] = 1;
}

function makeDevice(slot: number, queueCount: number): Plugged {
  const state = createDeviceState({
    type: 2,
    features: [1, 9],
    queueSizes: Array.from({ length: queueCount }, () => 64),
    config: new Uint8Array(32),
    writableConfig: { offset: 4, bytes: 4 },
  });
  const base = slot * FDS_OF_SLOT;
  state.words[DEVICE_WORD.configFd] = base;
  for (let queue = 0; queue < queueCount; queue++) {
    state.words[queueWord(queue, QUEUE_WORD.callFd)] = base + 1 + queue;
    // Never a descriptor of this process.
    state.words[queueWord(queue, QUEUE_WORD.notifyFd)] = -1 - base - queue;
  }
  state.words[DEVICE_WORD.pinFd] = -1;
  state.words[DEVICE_WORD.controlFd] = -1;
  const words = createFunctionWords();
  const shape = virtioShape(2, queueCount);
  const link = {
    slot,
    words: words.buffer as SharedArrayBuffer,
    state: state.buffer,
    queueCapacity: queueCount,
  };
  return { link, words, state, shape, initial: state.words.slice() };
}

function makeBus() {
  const devices = SLOTS.map((slot, i) => makeDevice(slot, [1, 2, 5, 33][i]!));
  const bridge = createFunctionWords();
  const wiring = new CheckingWiring();
  const busWords = new SharedArrayBuffer(4 * BUS_WORD.size);
  const link = {
    vmFd: -1,
    buses: 2,
    words: busWords,
    bridge: bridge.buffer as SharedArrayBuffer,
    slots: devices.map((each) => each.link),
  };
  // A device whose worker does not answer holds up no access while the machine ends.
  const bus = new PciBus(link, () => true, wiring);
  const words = new Int32Array(busWords);
  return { bus, devices, wiring, bridge, words, hotplug: words.subarray(BUS_WORD.hotplug) };
}

let made: (ReturnType<typeof makeBus> & { copies: Plugged[] }) | undefined;

function resetBus(): NonNullable<typeof made> {
  made ??= { ...makeBus(), copies: makeBus().devices };
  made.words.fill(0);
  resetFunction(made.bridge, hostBridgeShape());
  made.devices.forEach(powerOn);
  made.wiring.reset();
  return made;
}

export const pciTarget: FuzzTarget = {
  name: 'pci',
  what: 'accesses to configuration spaces, BARs and MSI-X tables in any order, while devices come, go and are saved',
  seeds: () => randomChoices(seededRandom(17), 64, 300),
  run: (input) => {
    const choose = choicesOf(input);
    const { bus, devices, wiring, hotplug } = resetBus();
    const steps = Math.min(100, 8 + (input.length >> 4));
    const seen = new Set<string>();
    for (let step = 0; step < steps; step++) {
      const size = SIZES[choose(3)]!;
      const value = choose(3) === 0 ? choose(0xffff_ffff) : VALUES[choose(VALUES.length)]!;
      const cut = size === 4 ? value : value & (2 ** (8 * size) - 1);
      const device = devices[choose(devices.length)]!;
      const config = ECAM + device.link.slot * 0x8000 + offsetOfConfig(choose, device.shape);
      const bar = barAddress(device.words) + offsetOfBar(choose);
      switch (choose(10)) {
        case 0:
          checkValue(bus.read(config, size), size);
          break;
        case 1:
        case 2:
          bus.write(config, size, cut);
          break;
        case 3:
          if (bus.claims(bar)) checkValue(bus.read(bar, size), 4);
          break;
        case 4:
        case 5:
        case 6:
          if (bus.claims(bar)) bus.write(bar, size, cut);
          break;
        case 7:
          bus.configAddress =
            choose(2) === 0 ? value : 0x8000_0000 | (device.link.slot << 11) | choose(0x100);
          checkValue(bus.readData(choose(4), size), size);
          bus.writeData(choose(4), size, cut);
          break;
        case 8:
          bus.writeHotplug(4 * choose(PCI_HOTPLUG.bytes / 4 + 1), choose(2) === 0 ? value : choose(64));
          bus.readHotplug(4 * choose(PCI_HOTPLUG.bytes / 4 + 1));
          break;
        case 9:
          outside(choose(4), device, wiring, hotplug);
      }
      checkBus(devices, wiring, seen);
    }
    return [...seen].sort().join(' ');
  },
};

/** What the device's thread and the VMM do meanwhile. */
function outside(
  what: number,
  { link, words, state, shape }: Plugged,
  wiring: CheckingWiring,
  hotplug: Int32Array,
): void {
  const { slot } = link;
  if (what === 0) wiring.signal(slot * FDS_OF_SLOT + 1);
  else if (what === 1) noteInserted(hotplug, slot);
  else if (what === 2) requestRemoval(hotplug, slot);
  else {
    const pending = (source: number) => wiring.isSignalled(slot * FDS_OF_SLOT + source);
    const saved = { ...savePci(slot, words, state, pending), pending: [] };
    const copy = made!.copies.find((each) => each.link.slot === slot)!;
    powerOn(copy);
    restorePci(copy.words, shape, copy.state, saved, 'copy');
    const again = { ...savePci(slot, copy.words, copy.state, () => false), pending: [] };
    if (JSON.stringify(again) !== JSON.stringify(saved))
      throw new Error('a saved function is restored as another');
  }
}

/** Whatever is attached belongs to a device that is there, and notify addresses to a BAR of one. */
function checkBus(devices: readonly Plugged[], wiring: CheckingWiring, seen: Set<string>): void {
  for (const [fd, gsi] of wiring.irqfds) {
    const slot = Math.floor(fd / FDS_OF_SLOT);
    const { words } = devices.find(({ link }) => link.slot === slot)!;
    if (words[FUNCTION_WORD.present] === 0) throw new Error(`eventfd ${fd} of an ejected device is attached`);
    if (Math.floor((gsi - FIRST_MSI_GSI) / GSIS_PER_SLOT) !== slot)
      throw new Error(`GSI ${gsi} is not of slot ${slot}`);
    seen.add(`vectors ${slot}`);
  }
  const owned = devices.filter(({ words }) => words[FUNCTION_WORD.notifiable] !== 0);
  const most = owned.reduce((sum, { state }) => sum + state.queueCount, 0);
  if (wiring.notifications.size > most)
    throw new Error(`${wiring.notifications.size} notify addresses are left of ${most}`);
  for (const { words, link } of devices) {
    if (words[FUNCTION_WORD.present] === 0) seen.add(`ejected ${link.slot}`);
    else if (decodesMemory(words) && words[FUNCTION_WORD.notifiable] !== 0) seen.add(`decodes ${link.slot}`);
  }
}

/** Mostly registers that mean something. */
function offsetOfConfig(choose: (limit: number) => number, shape: VirtioShape): number {
  switch (choose(6)) {
    case 0:
      return CONFIG.command;
    case 1:
      return CONFIG.bar0 + 4 * choose(2);
    case 2:
      return shape.msixCapability + choose(12);
    case 3:
      return shape.accessCapability + 4 + 4 * choose(4);
    case 4:
      return choose(0x100);
    default:
      return choose(0x1000);
  }
}

function offsetOfBar(choose: (limit: number) => number): number {
  switch (choose(5)) {
    case 0:
      return PCI_BAR.common + choose(0x40);
    case 1:
      return PCI_BAR.msixTable + 4 * choose(4 * 40);
    case 2:
      return PCI_BAR.msixPba + choose(16);
    case 3:
      return PCI_BAR.common + [0x10, 0x14, 0x16, 0x1a, 0x1c][choose(5)]!;
    default:
      return choose(PCI_BAR.size + 16);
  }
}

function checkValue(value: number, size: number): void {
  if (!(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size)))
    throw new Error(`${value} is no value of ${size} bytes`);
}
