/**
 * The flags of virtio devices, from the devices' specs, and their conversion to sections of a configuration.
 */
import { Option, type CommandUnknownOpts } from '@commander-js/extra-typings';
import { ALL_SPECS, type ConfigInput } from '../api/index.ts';

type Flags = Readonly<Record<string, unknown>>;
type Item = Readonly<Record<string, unknown>>;

export function addDeviceFlags(command: CommandUnknownOpts): void {
  for (const { flag, isList } of ALL_SPECS) {
    const option = new Option(`--${flag.name}${flag.value === undefined ? '' : ` ${flag.value}`}`, flag.help);
    command.addOption(
      option.argParser((text: string, before: readonly Item[] | Item | undefined) => {
        if (!isList) return flag.parse(text, 0);
        const items = (before ?? []) as readonly Item[];
        return [...items, flag.parse(text, items.length)];
      }),
    );
  }
}

/** Sections for the flags that were given. A flag without a value becomes an empty section. */
export function deviceSections(flags: Flags): ConfigInput {
  const given = ALL_SPECS.map(({ section, flag }) => [section, flags[keyOf(flag.name)]] as const);
  return Object.fromEntries(
    given
      .filter(([, value]) => value !== undefined)
      .map(([section, value]) => [section, value === true ? {} : value]),
  );
}

/** `--disk` for `drives`, if the flag was given; undefined for other sections. */
export function deviceFlagOf(section: string, flags: Flags): string | undefined {
  const flag = ALL_SPECS.find((spec) => spec.section === section)?.flag;
  return flag && flags[keyOf(flag.name)] !== undefined ? `--${flag.name}` : undefined;
}

/** Commander's name of a flag's value: `virtio-console` → `virtioConsole`. */
function keyOf(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}
