/**
 * A virtio device that another process serves, told by vhost-user what to serve. Kicks go from KVM to that process and
 * interrupts back to KVM, by eventfds: no thread of Volt takes part in I/O, and what is here only starts and stops it.
 * It knows no kind of device.
 */
import { featureWords } from '../transport/device-state.ts';
import type { DeviceContext, VirtioDevice } from '../transport/device.ts';
import { FEATURE } from '../transport/mmio.regs.ts';
import {
  startRings,
  stopRings,
  VhostUserError,
  type SharedRegion,
  type VhostAgreement,
  type VhostLink,
} from './session.ts';

/** Rings that the other process may be handed; packed ones are not among them. */
const RING_FEATURES = [FEATURE.ringIndirectDesc, FEATURE.ringEventIdx, FEATURE.version1] as const;
const FEATURE_BITS = 64;

/** Of `bits`, those that the other side has. */
function featuresAmong({ features }: VhostAgreement, bits: readonly number[]): number[] {
  return bits.filter((bit) => ((features[bit < 32 ? 0 : 1] >>> (bit & 31)) & 1) !== 0);
}

/** Feature bits of transport and rings to offer to the driver. */
export function vhostRingFeatures(agreement: VhostAgreement): number[] {
  return featuresAmong(agreement, RING_FEATURES);
}

export interface VhostDeviceOptions {
  /** The process, for messages: `virtiofsd`. */
  readonly what: string;
  readonly agreement: VhostAgreement;
  /** All RAM of the guest. */
  readonly regions: readonly SharedRegion[];
  /** The kick eventfd of each queue. */
  readonly kickFds: readonly number[];
  /** The eventfd that raises the device's interrupt. */
  readonly callFd: number;
}

export interface VhostDeviceEffects extends VhostLink {
  /** Has `kick` called from now on: the other process does not hear kicks any more. */
  watchNotifications(): void;
  /** Answers what waits in a queue that nobody serves. */
  refuse(context: DeviceContext, queue: number): void;
  /** What is sent and received until the next call of this has so long, all together. */
  allow(ms: number): void;
  /** Ends the connection for good. */
  sever(): void;
}

const START_MS = 5000;
/** It finishes what it has taken first. */
const STOP_MS = 8000;

export class VhostDevice implements VirtioDevice {
  readonly #options: VhostDeviceOptions;
  readonly #link: VhostDeviceEffects;
  #context: DeviceContext | undefined;
  /** Queues that the other process has. */
  #running: number[] = [];
  /** Why it is of no use any more. */
  #lost: string | undefined;

  constructor(options: VhostDeviceOptions, link: VhostDeviceEffects) {
    this.#options = options;
    this.#link = link;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    const { agreement, regions, kickFds, callFd } = this.#options;
    const rings = kickFds.flatMap((kickFd, index) => {
      const setup = context.queueSetup(index);
      return setup ? [{ index, setup, kickFd, callFd }] : [];
    });
    const bits = Array.from({ length: FEATURE_BITS }, (_, bit) => bit);
    const features = featureWords(bits.filter((bit) => context.hasFeature(bit)));
    this.#attempt(START_MS, () => {
      startRings(this.#link, agreement, features, regions, rings);
      this.#running = rings.map(({ index }) => index);
    });
    if (this.#lost !== undefined) this.#takeOver(context);
  }

  /** Comes only when the other process is lost, and once for each queue when the driver is ready. */
  processQueue(queue: number): void {
    if (this.#lost !== undefined && this.#context) this.#link.refuse(this.#context, queue);
  }

  reset(): void {
    this.#context = undefined;
    const running = this.#running.splice(0);
    if (running.length > 0) this.#attempt(STOP_MS, () => stopRings(this.#link, running));
  }

  /** The other process hung up, or spoke without being asked. */
  disconnected(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lose(reason);
    if (this.#context) this.#takeOver(this.#context);
  }

  #takeOver(context: DeviceContext): void {
    this.#running = [];
    if (!context.reclaimQueues(this.#lost!)) return;
    this.#options.kickFds.forEach((_, queue) => this.processQueue(queue));
  }

  #attempt(ms: number, exchange: () => void): void {
    if (this.#lost !== undefined) return;
    try {
      this.#link.allow(ms);
      exchange();
    } catch (error) {
      if (!(error instanceof VhostUserError)) throw error;
      this.#lose(error.message);
    }
  }

  #lose(reason: string): void {
    this.#lost = `${this.#options.what} ${reason}`;
    this.#link.sever();
    this.#link.watchNotifications();
  }
}
