/**
 * The PCI bus on the main thread: its slots, their shared words, and what KVM is told of them before the guest runs.
 * Threads of vCPUs get no messages while they run a guest, so slots for devices that are plugged later exist from the
 * start.
 */
import { createEventFd } from '../../ffi/epoll.ts';
import { POLL, pollFd } from '../../ffi/poll.ts';
import { createFunctionWords, FUNCTION_WORD, placeBar, resetFunction } from '../../pci/function-state.ts';
import { hostBridgeShape } from '../../pci/host-bridge.ts';
import { CONFIG } from '../../pci/regs.ts';
import type { DeviceDescription } from '../transport/device.ts';
import {
  createDeviceState,
  DEVICE_WORD,
  deviceStateBytes,
  QUEUE_WORD,
  queueWord,
  type DeviceState,
} from '../transport/device-state.ts';
import { virtioShape } from '../transport/pci-shape.ts';
import { VoltError } from '../../volt-error.ts';
import type { SavedDevice } from './saved-device.ts';
import type { DeviceFds } from './device-fds.ts';
import { BUS_WORD, PciBus, slotsOfBuses, type PciBusLink, type PciSlotLink } from './pci-bus.ts';
import { restoreConfigSpace, restorePci, savePci, sourceFd, type SavedPci } from './save-pci.ts';
import { MAX_PCI_SLOTS, placePciSlot, type PciBusPlan } from './placement.ts';

/** Slots in which devices can be plugged while the guest runs. */
const SPARE_SLOTS = 16;
/** What a disk or a network interface that is plugged has at most: 16 pairs of queues and one more. */
const SPARE_QUEUES = 33;
const SPARE_OWN_WORDS = 64;

const F = FUNCTION_WORD;

/** State of the bus itself in a snapshot. */
export interface SavedPciBus {
  readonly words: readonly number[];
  readonly bridge: readonly number[];
}

export class PciHost {
  readonly link: PciBusLink;
  readonly #bus: PciBus;
  readonly #bySlot: ReadonlyMap<number, PciSlotLink>;

  /** `descriptions` are those of the devices at the start, in order. */
  constructor(
    vmFd: number,
    plan: PciBusPlan,
    descriptions: readonly DeviceDescription[],
    isEnding: () => boolean,
  ) {
    const used = descriptions.map((description, i) =>
      createSlot(plan.slots[i]!, description.queueSizes.length, description.stateWords?.length ?? 0),
    );
    const taken = new Set(plan.slots);
    const limit = Math.min(slotsOfBuses(plan.buses), MAX_PCI_SLOTS);
    const free = Array.from({ length: limit - 1 }, (_, i) => i + 1).filter((slot) => !taken.has(slot));
    const spare = free.slice(0, SPARE_SLOTS).map((slot) => createSlot(slot, SPARE_QUEUES, SPARE_OWN_WORDS));
    const bridge = createFunctionWords();
    resetFunction(bridge, hostBridgeShape());
    bridge[F.present] = 1;
    const slots = [...used, ...spare];
    this.link = {
      vmFd,
      buses: plan.buses,
      words: new SharedArrayBuffer(4 * BUS_WORD.size),
      bridge: bridge.buffer as SharedArrayBuffer,
      slots,
    };
    this.#bySlot = new Map(slots.map((each) => [each.slot, each]));
    this.#bus = new PciBus(this.link, isEnding);
  }

  /** A slot with room for a device with so many queues. */
  findFreeSlot(queueCount: number, taken: readonly number[]): number | undefined {
    const free = this.link.slots.find(
      ({ slot, queueCapacity }) => queueCapacity >= queueCount && !taken.includes(slot),
    );
    return free?.slot;
  }

  /** State of a new device in a slot. */
  createState(slot: number, description: DeviceDescription): DeviceState {
    const { state, queueCapacity } = this.#bySlot.get(slot)!;
    return createDeviceState(description, { buffer: state, queueCapacity });
  }

  /** Queues that the state of a slot's device has room for. */
  queueCapacity(slot: number): number {
    return this.#bySlot.get(slot)!.queueCapacity;
  }

  /** Words of a slot's function, by FUNCTION_WORD. */
  functionWords(slot: number): Int32Array {
    return new Int32Array(this.#bySlot.get(slot)!.words);
  }

  /** Powers the device of a slot on: it has its eventfds, and answers accesses once this returns. */
  powerOn(
    slot: number,
    description: DeviceDescription,
    state: DeviceState,
    owned: DisposableStack,
  ): DeviceFds {
    const eventFd = () => owned.use(createEventFd()).fd;
    const queueCount = description.queueSizes.length;
    const queues = Array.from({ length: queueCount }, () => ({ notifyFd: eventFd(), callFd: eventFd() }));
    const [interruptFd, resampleFd, configFd] = [eventFd(), eventFd(), eventFd()];
    queues.forEach(({ notifyFd, callFd }, queue) => {
      state.words[queueWord(queue, QUEUE_WORD.notifyFd)] = notifyFd;
      state.words[queueWord(queue, QUEUE_WORD.callFd)] = callFd;
    });
    state.words[DEVICE_WORD.pinFd] = interruptFd;
    state.words[DEVICE_WORD.configFd] = configFd;
    const { gsi, address } = placePciSlot(slot);
    this.#bus.attachPin(interruptFd, gsi, resampleFd);
    const words = this.functionWords(slot);
    resetFunction(words, virtioShape(description.type, queueCount));
    placeBar(words, address);
    Atomics.store(words, F.present, 1);
    return {
      queueFds: queues.map(({ notifyFd }) => notifyFd),
      callFds: queues.map(({ callFd }) => callFd),
      interruptFd,
      pci: { configFd, resampleFd },
    };
  }

  /** State of a slot's device, whose worker is paused. */
  save(slot: number, state: DeviceState): SavedPci {
    const words = this.functionWords(slot);
    const isPending = (source: number) =>
      words[F.attached + source] === 0 && pollFd(sourceFd(state, source), POLL.in, 0) > 0;
    return savePci(slot, words, state, isPending);
  }

  /** After `powerOn`: the device goes on where it was saved. Throws VoltError 'config' for another device's state. */
  restore(
    slot: number,
    { type }: DeviceDescription,
    state: DeviceState,
    { pci, id, kind }: SavedDevice,
  ): void {
    const name = `${id} (${kind})`;
    if (pci?.slot !== slot)
      throw new VoltError(
        'config',
        `Cannot restore device ${name}: it was ${pci ? `in slot ${pci.slot}` : 'on MMIO'} (expected slot ${slot} of PCI)`,
      );
    restorePci(this.functionWords(slot), virtioShape(type, state.queueCount), state, pci, name);
  }

  /** The words of the bus and the configuration space of its host bridge. */
  saveBus(): SavedPciBus {
    const { words, bridge } = this.link;
    const config = new Int32Array(bridge).subarray(F.config, F.config + CONFIG.size / 4);
    return { words: [...new Int32Array(words)], bridge: [...config] };
  }

  restoreBus({ words, bridge }: SavedPciBus): void {
    new Int32Array(this.link.words).set(words.slice(0, BUS_WORD.size));
    restoreConfigSpace(new Int32Array(this.link.bridge), hostBridgeShape(), bridge);
  }

  /** Tells KVM what the registers of a restored device say. */
  apply(slot: number): void {
    this.#bus.applySlot(slot);
  }
}

function createSlot(slot: number, queueCapacity: number, ownWords: number): PciSlotLink {
  return {
    slot,
    words: createFunctionWords().buffer as SharedArrayBuffer,
    state: new SharedArrayBuffer(deviceStateBytes(queueCapacity, ownWords)),
    queueCapacity,
  };
}
