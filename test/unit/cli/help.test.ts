/** Help: it fits a terminal, and its examples are commands that Volt takes. */
import { describe, expect, test } from 'bun:test';
import { parsePlainly } from '../../../src/cli/flags.ts';
import { defineAll, program } from '../../../src/cli/program.ts';
import { RUN_EXAMPLES } from '../../../src/cli/run-examples.ts';
import { MACHINE_FLAGS, RUN_FLAGS } from '../../../src/cli/run-flags.ts';

const WIDTH = 80;
defineAll();

/** As it is printed, with the text after the options. */
function helpOf(command: (typeof program.commands)[number]): string {
  let text = '';
  command.configureOutput({ writeOut: (piece) => (text += piece) }).outputHelp();
  return text;
}

describe('help', () => {
  test.each(program.commands.map((command) => [command.name(), command] as const))(
    'of %s fits 80 columns',
    (_, command) => {
      expect(
        helpOf(command)
          .split('\n')
          .filter((line) => line.length > WIDTH),
      ).toEqual([]);
    },
  );

  test('of volt has groups of commands', () => {
    const titles = [...program.helpInformation().matchAll(/^(\S.*):$/gm)].map((match) => match[1]);

    expect(titles).toEqual(
      expect.arrayContaining(['Start and describe guests', 'Guests that run', 'Guests by name', 'This host']),
    );
  });

  const groups = [...MACHINE_FLAGS, ...RUN_FLAGS];
  const examples = [...RUN_EXAMPLES.matchAll(/^ +volt run (.*)$/gm)].map((match) => [match[1]!] as const);

  test.each(examples)('shows an example that Volt takes: volt run %s', (words) => {
    const argv = [...words.matchAll(/"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2]!);

    expect(parsePlainly(groups, argv)).toBeDefined();
  });

  test('has an example for each group of options', () => {
    const titles = groups.map(({ title }) => title.replace(/:$/, ''));

    expect([...RUN_EXAMPLES.matchAll(/^ {2}(\S.*)$/gm)].map((match) => match[1]!)).toEqual(titles);
  });
});
