/** Interface of a device's `spec.ts`: its configuration, flag, feature names and metrics. Pure. */
import type * as v from 'valibot';
import type { OptionalDevice } from '../../sandbox/optional-devices.ts';
import type { MetricFamily } from '../../schema/metric-family.ts';
import type { BalloonStatus } from '../balloon/status.ts';

/** Fields of every device's configuration. */
export interface DeviceConfigBase {
  readonly kind: string;
  /** Name of the device in messages, metrics and `volt ctl`. */
  readonly id: string;
}

/** A section of a configuration file, or one item of a section that is a list, as parsed from JSON. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** What `volt restore` may change of a device: what its guest does not see, or learns of. */
export interface HostSide {
  /** The key by which an item of a list is found; undefined: the section is no list. */
  readonly idKey: string | undefined;
  /** Keys that are replaced together: one that a flag does not give has its default then. */
  readonly keys: readonly string[];
  /** Keys that stay as they were saved unless they are given. */
  readonly keptKeys?: readonly string[];
}

/** The flag of `volt run` that adds the device. */
export interface DeviceFlag {
  /** Without the dashes. */
  readonly name: string;
  /**
   * Placeholder of the value in help: `<settings>`, `[settings]`, or undefined for a flag without a value.
   */
  readonly value: string | undefined;
  readonly help: string;
  /**
   * Parses the flag's value to the JSON of a configuration file. `index` counts flags of this name and
   * provides the default id. Throws VoltError 'usage'.
   */
  readonly parse: (text: string, index: number) => JsonObject;
}

export interface DeviceSpec<Config extends DeviceConfigBase> {
  readonly kind: Config['kind'];
  /** Key of the section in a configuration file. */
  readonly section: string;
  /** Whether the section is a list, with one item per flag. */
  readonly isList: boolean;
  /** Keys of the section or of its items. Only called for a configuration with this section. */
  readonly entries: () => v.ObjectEntries;
  /** Validates the section and gives its devices in slot order. Only called for a configuration with it. */
  readonly schema: () => v.GenericSchema<unknown, readonly Config[]>;
  readonly flag: DeviceFlag;
  /** undefined: `volt restore` takes no flag for the device. */
  readonly hostSide?: HostSide;
  /** Kernel parameters that make the device the root file system; `index` counts devices of this kind. */
  readonly rootWords?: (config: Config, index: number) => string | undefined;
  /** Unix sockets that Volt binds for the device and removes when the VM ends. */
  readonly socketPaths?: (config: Config) => readonly string[];
  /** System calls that the sandbox allows for the device alone; with `share`, guest RAM is shared memory. */
  readonly sandboxNeeds?: (config: Config) => readonly OptionalDevice[];
  /** Feature bits of the device type by the specification's names, in camel case. */
  readonly featureBits?: Readonly<Record<string, number>>;
  /** Metrics that only this kind of device has. */
  readonly metrics?: (status: BalloonStatus) => readonly MetricFamily[];
}

/** Returns `spec`, with its configuration type inferred. */
export function defineSpec<const Config extends DeviceConfigBase>(
  spec: DeviceSpec<Config>,
): DeviceSpec<Config> {
  return spec;
}
