/** What the main thread tells a device worker, and the words they share. */
import type { HostPointer } from '../../ffi/libc.ts';
import type { FailureCause } from '../transport/device.ts';
import type { RamRegion } from './serve-device.ts';
import type { DeviceKind } from './specs.ts';

/** One device that a worker serves. */
export interface ServedDevice {
  readonly kind: DeviceKind;
  /** Index of the device in its machine. */
  readonly slot: number;
  /** What messages to people call it. */
  readonly id: string;
  /** Device state, shared with the vCPUs' threads. */
  readonly buffer: SharedArrayBuffer;
  readonly queueFds: readonly number[];
  /** Raises the device's interrupt. */
  readonly interruptFd: number;
  /** From `open`. */
  readonly start: unknown;
}

export interface VirtioWorkerStart {
  /** The worker's own words, WORKER_WORD. */
  readonly control: SharedArrayBuffer;
  readonly controlFd: number;
  /** Of the thread. */
  readonly name: string;
  readonly ram: readonly RamRegion[];
  readonly devices: readonly ServedDevice[];
  /** System call filter for this thread, from `placeFilter`. */
  readonly filter: HostPointer | undefined;
}

/** Words of one device worker. `stopped` is notified. */
export const WORKER_WORD = { stopWanted: 0, stopped: 1, size: 2 } as const;

/** What a worker reports: a device or its driver failed, a sentence for people, or the worker itself failed. */
export type VirtioReport =
  | {
      readonly kind: 'device-failed';
      readonly slot: number;
      readonly id: string;
      readonly reason: string;
      readonly cause: FailureCause;
    }
  | { readonly kind: 'device-message'; readonly id: string; readonly text: string }
  | { readonly kind: 'worker-failed'; readonly message: string };
