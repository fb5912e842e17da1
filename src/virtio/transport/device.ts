/**
 * What a virtio device is, in two halves. Facts are plain data: the transport, which vCPU workers run, needs no
 * more. Behaviour lives in a device worker and never runs on a vCPU.
 */
import type { GuestRam } from './guest-ram.ts';
import type { QueueSetup, Virtqueue } from './queue.ts';

/** Bytes of configuration space that a device can have at most. */
export const CONFIG_BYTES = 256;

export interface DeviceDescription {
  /** One of DEVICE_TYPE. */
  readonly type: number;
  /** Feature bits offered, by number; those of the transport and the rings are added by it. */
  readonly features: readonly number[];
  /** Largest size of each queue, powers of two. */
  readonly queueSizes: readonly number[];
  /** Configuration space as the device starts with; at most CONFIG_BYTES. */
  readonly config: Uint8Array;
  /** What of it the driver may write; the rest is read-only. */
  readonly writableConfig?: { readonly offset: number; readonly bytes: number };
  /** Feature bits of transport and rings where they are not all that Volt's own rings can do. */
  readonly ringFeatures?: readonly number[];
  /** Another process serves the rings; kicks and interrupts go between it and KVM, past the device worker. */
  readonly servedByBackend?: true;
}

/** Whose fault it is that a device cannot go on. */
export type FailureCause = 'driver' | 'host';

/** What a device gets when its driver is ready (DRIVER_OK), valid until `reset`. */
export interface DeviceContext {
  readonly ram: GuestRam;
  /** By index; undefined where the driver set none up. */
  readonly queues: readonly (Virtqueue | undefined)[];
  /** Whether device and driver agreed on this feature bit. */
  hasFeature(bit: number): boolean;
  /** To be called after `pushUsed`, once for a batch: interrupts the guest if its driver wants that. */
  interrupt(queue: number): void;
  /**
   * The driver did what cannot be answered, or the host has nothing to answer it with: DEVICE_NEEDS_RESET, and the
   * device is left alone until its reset.
   */
  fail(reason: string, cause?: FailureCause): void;
  /** Where the driver put a queue; undefined where it set none up. What is there was checked to be RAM. */
  queueSetup(queue: number): QueueSetup | undefined;
  /**
   * The process that served the rings is lost, for good: DEVICE_NEEDS_RESET as with `fail`, but `queues` are now what it
   * left of them, for a driver that does not reset. False when they make no sense; then the device has failed.
   */
  reclaimQueues(reason: string): boolean;
  /** Changes the configuration space and tells the driver so. Not for bytes the driver may write. */
  setConfig(offset: number, bytes: Uint8Array): void;
  /** A byte of the configuration space, to see what the driver wrote there. */
  config(offset: number): number;
  /** For `volt ctl … devices`: a chain was served, with so many payload bytes read from and written to the guest. */
  count(queue: number, bytesFromGuest: number, bytesToGuest: number): void;
  /** The same: a request was answered with an error, or a packet was lost. */
  countError(queue: number): void;
}

export interface VirtioDevice {
  /** The driver is ready. Chains may wait already; every queue is kicked once right after this. */
  activate(context: DeviceContext): void;
  /** The driver made chains available in this queue, or may have: a kick can come too often. */
  processQueue(queue: number): void;
  /**
   * The driver reset the device, or it failed, or the VM ends: when this returns, nothing may touch guest memory
   * any more on behalf of the old context. May be called while not active.
   */
  reset(): void;
  /** The driver wrote to the configuration space. */
  configWritten?(): void;
}
