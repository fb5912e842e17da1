/** Messages between the main thread and a device worker, and the words that they share. */
import type { HostPointer } from '../../ffi/libc.ts';
import type { FailureCause } from '../transport/device.ts';
import type { DeviceFds } from './device-fds.ts';
import type { HotplugStart } from '../mem/hotplug-start.ts';
import type { MappedRegion } from './serve-device.ts';
import type { DeviceKind } from './specs.ts';

/** One device of a worker. */
export interface ServedDevice {
  readonly kind: DeviceKind;
  /** That of its MachineDevice. */
  readonly number: number;
  /** Name of the device in messages. */
  readonly id: string;
  /** Device state, shared with the vCPU workers, with room for so many queues. */
  readonly buffer: SharedArrayBuffer;
  readonly queueCapacity: number;
  /** For `sendChange`. */
  readonly mailbox: SharedArrayBuffer;
  readonly fds: DeviceFds;
  /** `start` of its `OpenDevice`. */
  readonly start: unknown;
}

export interface VirtioWorkerStart {
  /** The words WORKER_WORD. */
  readonly control: SharedArrayBuffer;
  /** Eventfd that asks the worker to examine `control` and its devices' state. */
  readonly controlFd: number;
  /** Name of the thread. */
  readonly name: string;
  readonly ram: readonly MappedRegion[];
  /** That of DirtyPages of the first `ramBytes` bytes of `ram`. */
  readonly dirty: { readonly buffer: SharedArrayBuffer; readonly ramBytes: number };
  readonly devices: readonly ServedDevice[];
  readonly hotplug: HotplugStart | undefined;
  /** System call filter for this thread, from `placeFilter`. */
  readonly filter: HostPointer | undefined;
}

/** Words of one device worker, all of them futex words. */
export const WORKER_WORD = {
  /** WORKER_RUN, WORKER_STOP, or the number of a pause, from 1 on. Written by the main thread. */
  command: 0,
  /** Number of the last pause that the worker has entered. It leaves it by another command. */
  paused: 1,
  stopped: 2,
  size: 3,
} as const;
export const WORKER_RUN = 0;
export const WORKER_STOP = -1;

/** A report of a worker: a device failed, a message for the user, or the worker itself failed. */
export type VirtioReport =
  | {
      readonly kind: 'device-failed';
      readonly number: number;
      readonly id: string;
      readonly reason: string;
      readonly cause: FailureCause;
    }
  | { readonly kind: 'device-message'; readonly id: string; readonly text: string }
  | { readonly kind: 'worker-failed'; readonly message: string };
