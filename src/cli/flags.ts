/**
 * Flags as tables. Commander gets its options from them, for help, errors, man pages and completions; a plain
 * command line is parsed from them alone, because loading, defining and running commander takes longer than a
 * guest's own start.
 */

/** An argument that a flag or a command does not accept. Commander puts the flag's name before the message. */
export class InvalidArgument extends Error {
  /** By which commander recognises it. */
  readonly code = 'commander.invalidArgument';
  readonly exitCode = 1;
}

export interface Flag {
  /** As help shows it: `-k, --kernel <file>`, `--control [path]`, `--no-acpi`. */
  readonly flags: string;
  readonly help: string;
  /** Without it the value is the text. `before` is the value so far. Throws InvalidArgument or VoltError. */
  readonly parse?: (text: string, before: unknown) => unknown;
  readonly choices?: readonly string[];
  readonly default?: unknown;
  /** Whether it may be given again; `parse` collects the values. */
  readonly isList?: boolean;
}

export interface FlagGroup {
  readonly title: string;
  readonly flags: readonly Flag[];
}

/** What `flags` of a Flag says. */
export interface FlagNames {
  /** `--kernel`, `--no-acpi` */
  readonly long: string;
  /** `-k` */
  readonly short: string | undefined;
  /** Key of its value, as commander names it: `virtio-console` → `virtioConsole`, `no-acpi` → `acpi`. */
  readonly key: string;
  readonly isNegated: boolean;
  readonly value: 'none' | 'optional' | 'required';
}

export function readNames({ flags }: Flag): FlagNames {
  const long = /--[\w-]+/.exec(flags)![0];
  const isNegated = long.startsWith('--no-');
  return {
    long,
    short: /^-\w(?=, )/.exec(flags)?.[0],
    key: keyOf(long.slice(isNegated ? '--no-'.length : 2)),
    isNegated,
    value: flags.endsWith('>') ? 'required' : flags.endsWith(']') ? 'optional' : 'none',
  };
}

/** Key of a flag's value: `virtio-console` → `virtioConsole`. */
export function keyOf(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** Values that these words give to these flags, or undefined where commander has to say what they mean. */
export function parsePlainly(
  groups: readonly FlagGroup[],
  words: readonly string[],
): Readonly<Record<string, unknown>> | undefined {
  const flags = groups.flatMap((group) => group.flags).map((flag) => ({ ...flag, ...readNames(flag) }));
  const values: Record<string, unknown> = {};
  for (const flag of flags) {
    if (flag.default !== undefined) values[flag.key] = flag.default;
    else if (flag.isNegated && !flags.some(({ long }) => long === `--${flag.key}`)) values[flag.key] = true;
  }
  const given = new Set<string>();
  for (let i = 0; i < words.length; i++) {
    const [, name = '', attached] = /^(--?[\w-]+)(?:=([^]*))?$/.exec(words[i]!) ?? [];
    const flag = flags.find(({ long, short }) => name === long || name === short);
    if (!flag || (given.has(flag.long) && !flag.isList)) return undefined;
    given.add(flag.long);
    let text: string | undefined;
    if (attached !== undefined) {
      if (name !== flag.long || flag.value === 'none') return undefined;
      text = attached;
    } else if (flag.value === 'required') {
      if (++i === words.length) return undefined;
      text = words[i]!;
    } else if (flag.value === 'optional') {
      // Commander takes a negative number for a value.
      if (/^-\d/.test(words[i + 1] ?? '')) return undefined;
      if (i + 1 < words.length && !/^-./.test(words[i + 1]!)) text = words[++i]!;
    }
    if (text !== undefined && flag.choices && !flag.choices.includes(text)) return undefined;
    values[flag.key] =
      text === undefined ? !flag.isNegated : flag.parse ? flag.parse(text, values[flag.key]) : text;
  }
  return values;
}
