/** Interface of a device's `open.ts`, which opens a configured device's files on the main thread. */
import type { Mapping } from '../../ffi/mapping.ts';
import type { BalloonControl } from '../balloon/control.ts';
import type { DiskControl } from '../block/control.ts';
import type { MemControl } from '../mem/control.ts';
import type { MemPlacement } from '../mem/shape.ts';
import type { PmemPlacement } from '../pmem/placement.ts';
import type { DeviceDescription } from '../transport/device.ts';

/** A device with open files. It stays open across guest resets, for the machine that follows. */
export interface OpenDevice<Start = unknown> {
  readonly description: DeviceDescription;
  /** Argument of the device's `serve` function: plain data, because a message carries it to the worker. */
  readonly start: Start;
  /** Whether its I/O may block for long. Such a device gets its own worker. */
  readonly blocks: boolean;
  /** Balloon only: control of the running device by the main thread. */
  readonly balloon?: BalloonControl;
  /** Hotpluggable memory only: its control by the main thread. */
  readonly mem?: MemControl;
  /** Disks only: replaces the file of the running device. */
  readonly disk?: DiskControl;
  /** Persistent memory only: maps the file as the guest sees it. Called once per machine. */
  readonly mapRegion?: () => Mapping;
  /** Devices that others serve: turns their log of written pages on or off. `save` needs it from the start on. */
  readonly trackWrites?: (on: boolean) => void;
  /** For the log, at level info: a clause that follows the device's id. */
  readonly note?: string | undefined;
  /** Closes the files. Call it after the worker has stopped. */
  close(): void;
}

export interface OpenContext {
  /** Persistent memory only: its guest physical range. */
  readonly pmem: PmemPlacement | undefined;
  /** Guest physical address at which RAM ends. */
  readonly ramEnd: number;
  /** Where hotpluggable memory is; undefined: there is none. */
  readonly hotplug: MemPlacement | undefined;
}

/** Opens a device. Throws VoltError if a file cannot be used, and then leaves nothing open. */
export type OpenFunction<Config, Start> = (config: Config, context: OpenContext) => OpenDevice<Start>;
