/**
 * Runs one device on its device worker: activates it on DRIVER_OK, deactivates it on reset, and sets
 * DEVICE_NEEDS_RESET for a driver that breaks the protocol. Pure: its effects are passed in.
 */
import type { DeviceChange } from './device-change.ts';
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { CONFIG_BYTES, type DeviceContext, type FailureCause, type VirtioDevice } from './device.ts';
import {
  DEVICE_WORD,
  driverHasFeature,
  QUEUE_COUNTER,
  QUEUE_WORD,
  queueWord,
  type DeviceState,
} from './device-state.ts';
import type { GuestRam } from './guest-ram.ts';
import { FEATURE, INTERRUPT, STATUS } from './mmio.regs.ts';
import { PackedQueue } from './packed-queue.ts';
import {
  QueueError,
  type QueueFeatures,
  type QueuePosition,
  type QueueSetup,
  type Virtqueue,
} from './queue.ts';
import { SplitQueue } from './split-queue.ts';

const W = DEVICE_WORD;
const Q = QUEUE_WORD;
const C = QUEUE_COUNTER;

/** Effects of a device on the machine and its user. */
export interface RunnerEffects {
  /** Raises the device's interrupt: an edge on MMIO, the pin on PCI. */
  interrupt(): void;
  /** With MSI-X: sends the message of a queue, or of configuration changes for CONFIG_CHANGE. */
  sendMessage?(queue: number): void;
  /** Milliseconds of the clock that the device's limiters go by. */
  now(): number;
  /** Reports to the user that the device entered DEVICE_NEEDS_RESET. */
  reportFailure?(reason: string, cause: FailureCause): void;
}

/** Instead of a queue's number. */
export const CONFIG_CHANGE = -1;

export class DeviceRunner implements DeviceContext {
  readonly ram: GuestRam;
  queues: (Virtqueue | undefined)[] = [];
  #setups: (QueueSetup | undefined)[] = [];
  readonly #device: VirtioDevice;
  readonly #state: DeviceState;
  readonly #effects: RunnerEffects;
  #active = false;
  /** Value of the `resets` word at activation. */
  #resets = 0;
  #configWrites = 0;

  constructor(device: VirtioDevice, state: DeviceState, ram: GuestRam, effects: RunnerEffects) {
    this.#device = device;
    this.#state = state;
    this.ram = ram;
    this.#effects = effects;
  }

  get active(): boolean {
    return this.#active;
  }

  /**
   * Gives the limiters the levels of a saved device, and acts on what happened before this worker ran. The interrupt
   * of a restored device may have been lost after its bit was saved, so it is raised again, and with MSI-X, which saves
   * no bits, all of them; drivers have to expect spurious ones. (§2.7.7.1)
   */
  start(): void {
    const { words } = this.#state;
    const restored = Atomics.load(words, W.restored) !== 0;
    this.#device.limiters?.forEach((limiter, index) => limiter.restore(this.#state.levels, index));
    this.sync();
    if (Atomics.load(words, W.interruptStatus) !== 0) this.#effects.interrupt();
    if (!restored || Atomics.load(words, W.msixEnabled) === 0) return;
    for (let queue = CONFIG_CHANGE; queue < this.queues.length; queue++) this.#effects.sendMessage?.(queue);
  }

  /**
   * Acts on the driver's register writes and completes `syncWanted`. Call it when the control eventfd is
   * signalled.
   */
  sync(): void {
    const { words } = this.#state;
    const wanted = Atomics.load(words, W.syncWanted);
    this.#followDriver();
    const writes = Atomics.load(words, W.configWrites);
    if (writes !== this.#configWrites) {
      this.#configWrites = writes;
      if (this.#active) this.#device.configWritten?.();
    }
    Atomics.store(words, W.syncDone, wanted);
    Atomics.notify(words, W.syncDone);
  }

  /** The driver notified a queue. The notification may arrive before the request to sync on DRIVER_OK. */
  handleNotification(queue: number): void {
    const { words, counters } = this.#state;
    if (!this.#active) this.#followDriver();
    // After a reset, a vCPU waits for `sync`, which deactivates the device.
    if (!this.#active || Atomics.load(words, W.resets) !== this.#resets) return;
    if (this.queues[queue] === undefined) return;
    const at = queue * C.size + C.kicks;
    counters[at] = counters[at]! + 1;
    this.#device.processQueue(queue);
  }

  /** Deactivates the device when the VM ends. */
  stop(): void {
    if (this.#active) this.#deactivate();
  }

  /**
   * Completes what is in flight and writes the positions of the queues and the device's own words to the
   * state. The device does not access guest memory until `resume`, if none of its functions is called. Returns
   * what could not be made durable.
   */
  pause(): string | undefined {
    this.sync();
    const problem = this.#active ? this.#drain() : undefined;
    const now = this.#effects.now();
    this.#device.limiters?.forEach((limiter, index) => limiter.save(this.#state.levels, index, now));
    return problem;
  }

  #drain(): string | undefined {
    const problem = this.#device.drain?.();
    // Returning buffers can fail the device when the driver has corrupted its ring.
    if (!this.#active) return problem;
    const { words, own } = this.#state;
    this.queues.forEach((queue, index) => {
      if (queue === undefined) return;
      const { next, wrap } = this.#device.position?.(index) ?? queue.position();
      words[queueWord(index, Q.next)] = next;
      words[queueWord(index, Q.wrap)] = wrap;
    });
    this.#device.save?.(own);
    return problem;
  }

  resume(): void {
    this.sync();
    if (this.#active) this.#device.resume?.();
    this.#processQueues();
  }

  hasFeature(bit: number): boolean {
    return driverHasFeature(this.#state.words, bit);
  }

  interrupt(queue: number): void {
    if (!this.#active || !this.queues[queue]?.shouldInterrupt()) return;
    const { counters } = this.#state;
    const at = queue * C.size + C.interrupts;
    counters[at] = counters[at]! + 1;
    this.#raise(INTERRUPT.usedBufferBit, queue);
  }

  fail(reason: string, cause: FailureCause = 'driver'): void {
    if (!this.#active) return;
    this.#deactivate();
    this.#declareBroken(reason, cause);
  }

  queueSetup(queue: number): QueueSetup | undefined {
    return this.#setups[queue];
  }

  reclaimQueues(reason: string, taken?: (queue: number) => readonly number[] | undefined): boolean {
    if (!this.#active) return false;
    try {
      this.queues = this.#setups.map(
        (setup, queue) => setup && this.#openQueue(setup, queue, { resumed: true, taken: taken?.(queue) }),
      );
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      this.fail(error.message);
      return false;
    }
    this.#declareBroken(reason, 'host');
    return true;
  }

  /** Makes a change that the main thread asked for. Throws an Error with a clause that says why it cannot. */
  change(change: DeviceChange): void {
    if (!this.#device.change) throw new Error('it cannot be changed while it runs');
    this.#device.change(change, (offset, bytes, quiet) => this.setConfig(offset, bytes, quiet));
  }

  setConfig(offset: number, bytes: Uint8Array, quiet = false): void {
    const { words, config } = this.#state;
    const hidden = (~Atomics.load(words, W.generation) & 1) * CONFIG_BYTES;
    config.set(bytes, hidden + offset);
    Atomics.add(words, W.generation, 1);
    config.set(bytes, CONFIG_BYTES - hidden + offset);
    if (this.#active && !quiet) this.#raise(INTERRUPT.configChangeBit, CONFIG_CHANGE);
  }

  config(offset: number): number {
    return this.#state.config[offset]!;
  }

  count(queue: number, bytesFromGuest: number, bytesToGuest: number): void {
    const { counters } = this.#state;
    const at = queue * C.size;
    counters[at + C.chains] = counters[at + C.chains]! + 1;
    counters[at + C.bytesOut] = counters[at + C.bytesOut]! + bytesFromGuest;
    counters[at + C.bytesIn] = counters[at + C.bytesIn]! + bytesToGuest;
  }

  countError(queue: number): void {
    const { counters } = this.#state;
    const at = queue * C.size + C.errors;
    counters[at] = counters[at]! + 1;
  }

  #followDriver(): void {
    const { words } = this.#state;
    const resets = Atomics.load(words, W.resets);
    if (this.#active && resets !== this.#resets) this.#deactivate();
    if (this.#active) {
      const disabled = this.queues.findIndex(
        (queue, i) => queue && Atomics.load(words, queueWord(i, Q.ready)) === 0,
      );
      if (disabled >= 0) this.fail(`the driver disabled queue ${disabled} while the device was running`);
      return;
    }
    const status = Atomics.load(words, W.status);
    if (status & STATUS.driverOkBit && !(status & STATUS.needsResetBit)) this.#activate(resets);
  }

  #activate(resets: number): void {
    const { words, own } = this.#state;
    // A restored device continues once, unless its driver has reset it since.
    const restored = Atomics.exchange(words, W.restored, 0) !== 0 && resets === 0;
    try {
      this.#setups = Array.from({ length: this.#state.queueCount }, (_, queue) => this.#readSetup(queue));
      this.queues = this.#setups.map(
        (setup, queue) =>
          setup && this.#openQueue(setup, queue, restored ? { position: this.#position(queue) } : {}),
      );
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      this.queues = [];
      this.#declareBroken(error.message, 'driver');
      return;
    }
    // A reset during the reads: they may mix the old and the new setup.
    if (Atomics.load(words, W.resets) !== resets) {
      this.queues = [];
      return;
    }
    this.#active = true;
    this.#resets = resets;
    this.#configWrites = Atomics.load(words, W.configWrites);
    Atomics.store(words, W.active, 1);
    this.#device.activate(this);
    if (restored && this.#active) this.#device.restore?.(own);
    this.#processQueues();
  }

  #processQueues(): void {
    for (let queue = 0; queue < this.queues.length && this.#active; queue++) {
      if (this.queues[queue] !== undefined) this.#device.processQueue(queue);
    }
  }

  #readSetup(queue: number): QueueSetup | undefined {
    const { words } = this.#state;
    if (Atomics.load(words, queueWord(queue, Q.ready)) === 0) return undefined;
    return {
      size: words[queueWord(queue, Q.size)]! >>> 0,
      descriptors: this.#address(queue, Q.descriptorsLow),
      driver: this.#address(queue, Q.driverLow),
      device: this.#address(queue, Q.deviceLow),
    };
  }

  #position(queue: number): QueuePosition {
    const { words } = this.#state;
    return { next: words[queueWord(queue, Q.next)]! >>> 0, wrap: words[queueWord(queue, Q.wrap)]! };
  }

  #openQueue(
    setup: QueueSetup,
    queue: number,
    start: Pick<QueueFeatures, 'resumed' | 'taken' | 'position'>,
  ): Virtqueue {
    const sizeMax = this.#state.words[queueWord(queue, Q.sizeMax)]!;
    if (setup.size > sizeMax)
      throw new QueueError(`queue ${queue} has ${setup.size} entries (expected at most ${sizeMax})`);
    const features = {
      indirect: this.hasFeature(FEATURE.ringIndirectDesc),
      eventIndex: this.hasFeature(FEATURE.ringEventIdx),
      ...start,
    };
    const Ring = this.hasFeature(FEATURE.ringPacked) ? PackedQueue : SplitQueue;
    return new Ring(this.ram, setup, features);
  }

  #address(queue: number, low: number): number {
    const { words } = this.#state;
    const at = queueWord(queue, low);
    return (words[at]! >>> 0) + (words[at + 1]! >>> 0) * TWO_POW_32;
  }

  #deactivate(): void {
    this.#device.reset();
    this.#active = false;
    this.queues = [];
    Atomics.store(this.#state.words, W.active, 0);
  }

  #declareBroken(reason: string, cause: FailureCause): void {
    const { words } = this.#state;
    Atomics.add(words, W.failures, 1);
    Atomics.or(words, W.status, STATUS.needsResetBit);
    this.#raise(INTERRUPT.configChangeBit, CONFIG_CHANGE);
    this.#effects.reportFailure?.(reason, cause);
  }

  /**
   * Sets the InterruptStatus bit before the edge, so that the driver's interrupt handler finds it. Messages need no
   * such bit. (§4.1.5.3)
   */
  #raise(bit: number, queue: number): void {
    if (Atomics.load(this.#state.words, W.msixEnabled) !== 0) {
      this.#effects.sendMessage?.(queue);
      return;
    }
    Atomics.or(this.#state.words, W.interruptStatus, bit);
    this.#effects.interrupt();
  }
}
