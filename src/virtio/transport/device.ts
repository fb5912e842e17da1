/**
 * The two interfaces of a virtio device. `DeviceDescription` is plain data and all that the transport on the
 * vCPU workers needs. `VirtioDevice` is the behaviour; it runs on a device worker, never on a vCPU.
 */
import type { DeviceChange } from './device-change.ts';
import type { GuestRam } from './guest-ram.ts';
import type { QueuePosition, QueueSetup, Virtqueue } from './queue.ts';
import type { RateLimiter } from './rate-limiter.ts';

/** Largest device configuration space, in bytes. */
export const CONFIG_BYTES = 256;

export interface DeviceDescription {
  /** One of DEVICE_TYPE. */
  readonly type: number;
  /** Offered device-type feature bits, by number, without those of transport and virtqueues. */
  readonly features: readonly number[];
  /** Maximum size of each virtqueue (QueueNumMax), a power of two. */
  readonly queueSizes: readonly number[];
  /** Initial configuration space; at most CONFIG_BYTES. */
  readonly config: Uint8Array;
  /** The range of the configuration space that the driver may write; the rest is read-only. */
  readonly writableConfig?: { readonly offset: number; readonly bytes: number };
  /** Offered feature bits of transport and virtqueues; TRANSPORT_FEATURES by default. */
  readonly ringFeatures?: readonly number[];
  /** A vhost back-end processes the virtqueues. It exchanges notifications with KVM directly, by eventfd. */
  readonly servedByBackend?: true;
  /** The back-end has no state but its queues' positions, so that the device can be saved. */
  readonly backendIsStateless?: true;
  /** State of the device besides its registers and queues, which `save` and `restore` know by index. */
  readonly stateWords?: readonly StateWord[];
}

/** One u32 of a device's own state, and the values that `restore` accepts. */
export interface StateWord {
  readonly name: string;
  readonly min: number;
  readonly max: number;
}

/** Which side made a device fail. */
export type FailureCause = 'driver' | 'host';

/** What a device gets on DRIVER_OK. Valid until the device's `reset`. */
export interface DeviceContext {
  readonly ram: GuestRam;
  /** By queue index; undefined for a queue that the driver did not enable. */
  readonly queues: readonly (Virtqueue | undefined)[];
  /** Whether this feature bit was negotiated. */
  hasFeature(bit: number): boolean;
  /**
   * Sends a used buffer notification unless the driver suppresses it. Call once after a batch of `pushUsed`.
   */
  interrupt(queue: number): void;
  /**
   * Sets DEVICE_NEEDS_RESET and deactivates the device until the driver resets it: the driver broke the
   * protocol (cause 'driver', the default), or the host cannot serve it any more (cause 'host'). (§2.1.2)
   */
  fail(reason: string, cause?: FailureCause): void;
  /** Size and addresses of a queue, checked to lie in RAM; undefined for a queue that is not enabled. */
  queueSetup(queue: number): QueueSetup | undefined;
  /**
   * Call when the vhost back-end is lost. Sets DEVICE_NEEDS_RESET like `fail`, but keeps the device active
   * and reopens `queues` at the index where the back-end stopped, so that a driver that does not reset still
   * gets answers. `taken` gives the chains that the back-end had taken and not used, if it is known. Returns false,
   * with the device failed, if the rings are invalid.
   */
  reclaimQueues(reason: string, taken?: (queue: number) => readonly number[] | undefined): boolean;
  /**
   * Changes the configuration space and sends a configuration change notification, unless `quiet`. Not for
   * `writableConfig`.
   */
  setConfig(offset: number, bytes: Uint8Array, quiet?: boolean): void;
  /** Reads one byte of the configuration space, for fields that the driver writes. */
  config(offset: number): number;
  /** Counts one completed descriptor chain and its payload bytes, for metrics and `volt ctl devices`. */
  count(queue: number, bytesFromGuest: number, bytesToGuest: number): void;
  /** Counts a request that was answered with an error, or a lost packet. */
  countError(queue: number): void;
}

export interface VirtioDevice {
  /** Its rate limiters, whose levels are part of its state; always the same ones. */
  readonly limiters?: readonly RateLimiter[];
  /** DRIVER_OK is set. Buffers may already be available: `processQueue` follows for every enabled queue. */
  activate(context: DeviceContext): void;
  /** The driver notified this queue. There may be nothing to process: notifications can be spurious. */
  processQueue(queue: number): void;
  /**
   * The driver reset the device, the device failed, or the VM ends. Once this returns, the device must not
   * access guest memory through the old context. Idempotent.
   */
  reset(): void;
  /** The driver wrote to the writable range of the configuration space. */
  configWritten?(): void;
  /**
   * Makes a change that the main thread asked for. `setConfig` changes the configuration space, also while the device is
   * not active. Throws an Error with a clause that says why it cannot.
   */
  change?(change: DeviceChange, setConfig: DeviceContext['setConfig']): void;
  /**
   * The machine is paused: completes the requests in flight, returns their buffers and makes what was written
   * durable. Chains that the device holds for later may stay with it. Returns a clause that says what could
   * not be made durable.
   */
  drain?(): string | undefined;
  /** After `drain`: where a queue stands that a back-end processes. */
  position?(queue: number): QueuePosition | undefined;
  /** The machine goes on after `drain`. `processQueue` follows for every enabled queue. */
  resume?(): void;
  /** Writes the device's `stateWords`, after `drain` of an active device. */
  save?(words: Int32Array): void;
  /**
   * Continues a device that was saved while active: follows `activate`, before any `processQueue`. The words
   * are in the ranges of `stateWords`.
   */
  restore?(words: Int32Array): void;
}
