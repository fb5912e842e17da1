/** What the main thread tells a device worker, and the words they share. */
import type { FailureCause } from '../transport/device.ts';
import type { HostPointer } from '../../ffi/libc.ts';
import type { BalloonStart } from '../balloon/open.ts';
import type { BlockStart } from '../block/open.ts';
import type { ConsoleStart } from '../console/open.ts';
import type { EntropyStart } from '../entropy/open.ts';
import type { TapStart } from '../net/open.ts';
import type { PmemStart } from '../pmem/open.ts';
import type { VhostStart } from '../share/open.ts';
import type { UserNetStart } from '../net/passt.ts';
import type { VsockStart } from '../vsock/open.ts';

/** What a device worker makes a device of: plain data, as it crosses threads by message. */
export type DeviceStart =
  | BlockStart
  | EntropyStart
  | TapStart
  | UserNetStart
  | VsockStart
  | BalloonStart
  | ConsoleStart
  | VhostStart
  | PmemStart;

/** One device that a worker runs. */
export interface DeviceSeat {
  /** What messages to people call it. */
  readonly id: string;
  readonly buffer: SharedArrayBuffer;
  readonly queueFds: readonly number[];
  /** Raises the device's interrupt. */
  readonly interruptFd: number;
  readonly device: DeviceStart;
}

/** What of the machine a device may need that others serve. */
export interface MachineParts extends Pick<DeviceSeat, 'queueFds' | 'interruptFd'> {
  readonly ram: readonly RamFacts[];
  /** Hears what becomes of the device, for people. */
  readonly tell: (text: string) => void;
}

/** One region of the guest's RAM, mapped at `host`; `fd` is there where other processes may map it too. */
export interface RamFacts {
  readonly address: number;
  readonly bytes: number;
  readonly host: number;
  readonly fd: number | undefined;
}

export interface VirtioWorkerStart {
  /** Worker's own words. */
  readonly control: SharedArrayBuffer;
  readonly controlFd: number;
  readonly name: string;
  readonly ram: readonly RamFacts[];
  readonly seats: readonly DeviceSeat[];
  /** System call filter for this thread, from `placeFilter`. */
  readonly filter: HostPointer | undefined;
}

/** Words of one device worker. `stopped` is notified. */
export const WORKER_WORD = { stopWanted: 0, stopped: 1, size: 2 } as const;

/**
 * What a worker says: that a device failed its driver or its driver it, what became of it, or that the worker
 * itself failed.
 */
export type VirtioReport =
  | {
      readonly kind: 'device-failed';
      readonly id: string;
      readonly reason: string;
      readonly cause: FailureCause;
    }
  | { readonly kind: 'device-tells'; readonly id: string; readonly text: string }
  | { readonly kind: 'failed'; readonly message: string };
