/** Contract of a device's `open.ts`, which runs on the main thread: from a configuration to open files. */
import type { Mapping } from '../../ffi/mapping.ts';
import type { BalloonControl } from '../balloon/control.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import type { DeviceDescription } from '../transport/device.ts';

/** A device whose files are open. It outlives resets of the guest: each machine in turn uses the same one. */
export interface OpenDevice<Start = unknown> {
  /** What the driver will find. */
  readonly description: DeviceDescription;
  /** What the device worker makes the device of: plain data, as it crosses threads by message. */
  readonly start: Start;
  /** Whether serving it may block for long. Such a device gets a worker of its own. */
  readonly blocks: boolean;
  /** Of a balloon: how the main thread controls it while it runs. */
  readonly balloon?: BalloonControl;
  /** Of persistent memory: maps the guest's view of the file, anew for each machine. */
  readonly mapRegion?: () => Mapping;
  /** Closes its files, after the worker has stopped. */
  close(): void;
}

export interface OpenContext {
  /** Of persistent memory: where it lies in the guest. */
  readonly pmem: PmemPlacement | undefined;
}

/** Throws VoltError that says what is wrong with the device's files; nothing is left open then. */
export type OpenFunction<Config, Start> = (config: Config, context: OpenContext) => OpenDevice<Start>;
