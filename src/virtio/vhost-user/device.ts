/**
 * A virtio device whose virtqueues a vhost-user back-end processes. Notifications go between KVM and the
 * back-end by eventfd, so no thread of Volt takes part in I/O. This class starts and stops the virtqueues,
 * for any device type. Without a back-end it refuses requests itself.
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

/**
 * Feature bits of transport and virtqueues that may be negotiated with a back-end. Packed is not supported.
 */
const RING_FEATURES = [FEATURE.ringIndirectDesc, FEATURE.ringEventIdx, FEATURE.version1] as const;
const FEATURE_BITS = 64;

/** The feature bits among `bits` that the back-end offers. */
export function vhostFeatures({ features }: VhostAgreement, bits: readonly number[]): number[] {
  return bits.filter((bit) => ((features[bit < 32 ? 0 : 1] >>> (bit & 31)) & 1) !== 0);
}

/** Feature bits of transport and virtqueues to offer to the driver. */
export function vhostRingFeatures(agreement: VhostAgreement): number[] {
  return vhostFeatures(agreement, RING_FEATURES);
}

export interface VhostDeviceOptions {
  /** Name of the back-end in messages, such as `virtiofsd`. */
  readonly name: string;
  readonly agreement: VhostAgreement;
  /** All guest RAM. */
  readonly regions: readonly SharedRegion[];
  /** Eventfd of each queue's available buffer notifications. */
  readonly kickFds: readonly number[];
  /** Eventfd that raises the device's interrupt. */
  readonly callFds: readonly number[];
}

export interface VhostDeviceEffects extends VhostLink {
  /** Makes notifications call `processQueue`, once the back-end no longer receives them. */
  watchNotifications(): void;
  /** Answers all requests in a queue with an error. */
  refuseRequests(context: DeviceContext, queue: number): void;
  /** Limits the total time of all sends and receives until the next call. */
  setTimeLimit(ms: number): void;
  /** Closes the connection for good. */
  shutDown(): void;
}

const START_MS = 5000;
/** Longer: the back-end completes the requests that it has taken. */
const STOP_MS = 8000;

export class VhostDevice implements VirtioDevice {
  readonly #options: VhostDeviceOptions;
  readonly #link: VhostDeviceEffects;
  #context: DeviceContext | undefined;
  /** Queues that the back-end processes. */
  #running: number[] = [];
  /** Why the back-end was lost; undefined while it works. */
  #lost: string | undefined;

  constructor(options: VhostDeviceOptions, link: VhostDeviceEffects) {
    this.#options = options;
    this.#link = link;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    const { agreement, regions, kickFds, callFds } = this.#options;
    const rings = kickFds.flatMap((kickFd, index) => {
      const setup = context.queueSetup(index);
      return setup ? [{ index, setup, kickFd, callFd: callFds[index]! }] : [];
    });
    const bits = Array.from({ length: FEATURE_BITS }, (_, bit) => bit);
    const features = featureWords(bits.filter((bit) => context.hasFeature(bit)));
    this.#attempt(START_MS, () => {
      startRings(this.#link, agreement, features, regions, rings);
      this.#running = rings.map(({ index }) => index);
    });
    if (this.#lost !== undefined) this.#takeOver(context);
  }

  /** Called only once the back-end is lost, and on activation. */
  processQueue(queue: number): void {
    if (this.#lost !== undefined && this.#context) this.#link.refuseRequests(this.#context, queue);
  }

  reset(): void {
    this.#context = undefined;
    const running = this.#running.splice(0);
    if (running.length > 0) this.#attempt(STOP_MS, () => stopRings(this.#link, running));
  }

  /** The back-end closed the connection, or sent a message that was not requested. */
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
      this.#link.setTimeLimit(ms);
      exchange();
    } catch (error) {
      if (!(error instanceof VhostUserError)) throw error;
      this.#lose(error.message);
    }
  }

  #lose(reason: string): void {
    this.#lost = `${this.#options.name} ${reason}`;
    this.#link.shutDown();
    this.#link.watchNotifications();
  }
}
