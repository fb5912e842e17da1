/** What `volt --help` knows, as plain data: man pages and completions are made from it. */
import { Command, type CommandUnknownOpts } from '@commander-js/extra-typings';
import { commandsFor } from '../../src/cli/ctl-commands.ts';
import { defineAll, program } from '../../src/cli/program.ts';

export interface OptionNode {
  /** As help shows it: `-k, --kernel <file>`. */
  readonly flags: string;
  readonly short: string | undefined;
  readonly long: string | undefined;
  /** Name of its value without brackets, `file`; undefined for a switch. */
  readonly value: string | undefined;
  /** The value may be left out. */
  readonly optionalValue: boolean;
  readonly choices: readonly string[];
  readonly description: string;
}

export interface CommandNode {
  readonly name: string;
  readonly description: string;
  /** Without the command's name: `[options]`. */
  readonly usage: string;
  readonly options: readonly OptionNode[];
  readonly commands: readonly CommandNode[];
  /** What its help says after the options. */
  readonly after: string;
}

/** `volt` and its commands. The commands of `volt ctl` hang below `ctl`, with GUEST for the guest. */
export function readCommandTree(): CommandNode {
  defineAll();
  const tree = readCommand(program);
  return {
    ...tree,
    commands: tree.commands.map((command) =>
      command.name === 'ctl' ? { ...command, commands: readCommand(ctlProgram()).commands } : command,
    ),
  };
}

function ctlProgram(): CommandUnknownOpts {
  return commandsFor('GUEST', false, new Command());
}

function readCommand(command: CommandUnknownOpts): CommandNode {
  const help = command.createHelp();
  return {
    name: command.name(),
    description: command.description(),
    usage: command.usage(),
    options: help.visibleOptions(command).map((option) => {
      const value = /[<[]([^\]>]+)[\]>]/.exec(option.flags)?.[1];
      return {
        flags: option.flags,
        short: option.short,
        long: option.long,
        value,
        optionalValue: option.optional,
        choices: option.argChoices ?? [],
        description: help.optionDescription(option),
      };
    }),
    commands: help
      .visibleCommands(command)
      .filter((each) => each.name() !== 'help')
      .map(readCommand),
    after: textAfter(command),
  };
}

/** Commander keeps it in listeners of the help event, which write to the output that they are handed. */
function textAfter(command: CommandUnknownOpts): string {
  let text = '';
  const write = (piece: string) => {
    text += piece;
  };
  (command as unknown as NodeJS.EventEmitter).emit('afterHelp', { error: false, command, write });
  return text.trim();
}
