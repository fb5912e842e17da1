/**
 * The flags of virtio devices, from the devices' specs, and their conversion to sections of a configuration.
 */
import { ALL_SPECS, type ConfigInput } from '../api/index.ts';
import { keyOf, type Flag } from './flags.ts';

type Flags = Readonly<Record<string, unknown>>;
type Item = Readonly<Record<string, unknown>>;

/** `only`: whether a device has a flag. */
export function deviceFlags(only: (spec: (typeof ALL_SPECS)[number]) => boolean = () => true): Flag[] {
  return ALL_SPECS.filter(only).map(({ flag, isList }) => ({
    flags: `--${flag.name}${flag.value === undefined ? '' : ` ${flag.value}`}`,
    help: flag.help,
    isList,
    ...(flag.value !== undefined && {
      parse: (text: string, before: unknown) => {
        if (!isList) return flag.parse(text, 0);
        const items = (before ?? []) as readonly Item[];
        return [...items, flag.parse(text, items.length)];
      },
    }),
  }));
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
