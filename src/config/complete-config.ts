/** A configuration with every key that has a value, defaults included. */
import * as v from 'valibot';
import { MIB } from '../machine/address.ts';
import { isSection } from '../schema/values.ts';
import { ALL_SPECS } from '../virtio/host/specs.ts';
import { DEFAULT_CMDLINE, SECTIONS, type ConfigInput, type VmConfig } from './config.ts';

/** What `config` was parsed from, completed: `parseConfig` of it gives the same configuration. */
export function completeConfig(config: VmConfig): ConfigInput {
  const { input, kernelPath, memoryBytes } = config;
  const computed: ConfigInput = {
    'boot-source': kernelPath === undefined ? {} : { boot_args: DEFAULT_CMDLINE },
    'machine-config': { mem_size_mib: memoryBytes / MIB },
  };
  const own = Object.entries(SECTIONS).map(([name, entries]) => [
    name,
    complete(input[name], { ...defaultsOf(entries), ...(computed[name] as ConfigInput | undefined) }),
  ]);
  const devices = ALL_SPECS.flatMap(({ section, isList, entries }) => {
    const content = input[section];
    if (content === undefined || content === null) return [];
    const defaults = defaultsOf(entries());
    const items = isList ? (content as readonly unknown[]) : [content];
    const completed = items.map((item) => complete(item, defaults));
    return [[section, isList ? completed : completed[0]] as const];
  });
  return Object.fromEntries([...own, ...devices]) as ConfigInput;
}

function defaultsOf(entries: v.ObjectEntries): ConfigInput {
  const values = Object.entries(entries).map(
    ([key, schema]) => [key, v.getDefault(schema as v.GenericSchema)] as const,
  );
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

function complete(section: unknown, defaults: ConfigInput): ConfigInput {
  const given = isSection(section) ? section : {};
  // null means the default, as a missing key does.
  const kept = Object.entries(given).filter(([, value]) => value !== null && value !== undefined);
  return { ...defaults, ...Object.fromEntries(kept) };
}
