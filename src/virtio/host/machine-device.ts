/** A device of a running machine, on the main thread. */
import type { BalloonControl } from '../balloon/control.ts';
import type { DiskControl } from '../block/control.ts';
import type { MemControl } from '../mem/control.ts';
import type { DeviceDescription } from '../transport/device.ts';
import type { DeviceState } from '../transport/device-state.ts';
import type { ChangedSettings } from './current-settings.ts';
import type { JsonObject } from './device-spec.ts';
import type { SlotPlacement } from './placement.ts';
import type { DeviceConfig } from './specs.ts';

export interface MachineDevice {
  readonly config: DeviceConfig;
  readonly placement: SlotPlacement;
  readonly description: DeviceDescription;
  readonly state: DeviceState;
  readonly balloon: BalloonControl | undefined;
  readonly disk: DiskControl | undefined;
  readonly mem: MemControl | undefined;
  /** Number of the device in messages with its worker, which no other device of the machine has had. */
  readonly number: number;
  /** The item of a device that was plugged, as a configuration file has it. */
  readonly item?: JsonObject | undefined;
  /** Reason of the last failure. */
  failure: string | undefined;
  /** What has been changed of it while it ran. */
  settings: ChangedSettings;
}
