/** Options for commander, from tables of flags. */
import { Option, type Command, type CommandUnknownOpts } from '@commander-js/extra-typings';
import type { FlagGroup } from './flags.ts';

/** Returns `command`. */
export function addFlags<T extends Command<[], {}>>(command: T, groups: readonly FlagGroup[]): T {
  const target = command as unknown as CommandUnknownOpts;
  for (const { title, flags } of groups) {
    target.optionsGroup(title);
    for (const flag of flags) {
      const option = new Option(flag.flags, flag.help);
      if (flag.choices) option.choices(flag.choices);
      if (flag.parse) option.argParser(flag.parse);
      if (flag.default !== undefined) option.default(flag.default);
      target.addOption(option);
    }
  }
  return command;
}
