/** Contract of a device's `spec.ts`: how people name the device and its settings. Pure. */
import type * as v from 'valibot';
import type { MetricFamily } from '../../schema/metric-family.ts';
import type { BalloonStatus } from '../balloon/status.ts';

/** What every device's part of a configuration has. */
export interface DeviceConfigBase {
  readonly kind: string;
  /** What messages, metrics and `volt ctl` call the device. */
  readonly id: string;
}

/** A section, or an item of a section that is a list, as it stands in the JSON of a configuration file. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** One flag of `volt run`, with the device's settings as its value. */
export interface DeviceFlag {
  /** Without the dashes. */
  readonly name: string;
  /** As help shows it: `<settings>`, `[settings]`, or undefined for a flag that takes no value. */
  readonly value: string | undefined;
  readonly help: string;
  /** `index` counts flags of this name, for ids that are not given. Throws VoltError 'usage'. */
  readonly parse: (text: string, index: number) => JsonObject;
}

export interface DeviceSpec<Config extends DeviceConfigBase> {
  readonly kind: Config['kind'];
  /** Section of the configuration file. */
  readonly section: string;
  /** Whether the section is a list, with an item for each flag. */
  readonly isList: boolean;
  /** Keys of the section, or of each of its items. Called only for a configuration that has the section. */
  readonly entries: () => v.ObjectEntries;
  /** From the section to its devices, in the order of their slots. Called only when there is such a section. */
  readonly schema: () => v.GenericSchema<unknown, readonly Config[]>;
  readonly flag: DeviceFlag;
  /** The words of a kernel's command line for a device that is its root; `index` counts devices of this kind. */
  readonly rootWords?: (config: Config, index: number) => string | undefined;
  /** Unix sockets that Volt binds for the device and removes at its end. */
  readonly socketPaths?: (config: Config) => readonly string[];
  /** Feature bits of the device type, by the specification's names in camel case. */
  readonly featureBits?: Readonly<Record<string, number>>;
  /** Metrics that only this kind of device has. */
  readonly metrics?: (status: BalloonStatus) => readonly MetricFamily[];
}

/** Infers what `SPECS` has to know of a device. */
export function defineSpec<const Config extends DeviceConfigBase>(
  spec: DeviceSpec<Config>,
): DeviceSpec<Config> {
  return spec;
}
