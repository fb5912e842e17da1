/** Man pages, in the macros of man(7), from what `--help` says. */
import type { CommandNode, OptionNode } from './command-tree.ts';

export interface ManPage {
  /** Such as `volt-run.1`. */
  readonly file: string;
  readonly text: string;
}

export interface ManContext {
  readonly version: string;
  /** As man(7) shows it: YYYY-MM-DD. */
  readonly date: string;
}

/** One page for volt, one for each command; those of `volt ctl` are on its page. */
export function manPages(tree: CommandNode, context: ManContext): ManPage[] {
  const pages = [tree, ...tree.commands];
  return pages.map((command) => ({
    file: `${pageName(tree, command)}.1`,
    text: manPage(tree, command, context),
  }));
}

function pageName(tree: CommandNode, command: CommandNode): string {
  return command === tree ? tree.name : `${tree.name}-${command.name}`;
}

function manPage(tree: CommandNode, command: CommandNode, { version, date }: ManContext): string {
  const name = pageName(tree, command);
  const others = [tree, ...tree.commands]
    .filter((each) => each !== command)
    .map((each) => pageName(tree, each));
  const lines = [
    `.TH ${name.toUpperCase()} 1 ${date} "Volt ${version}" "User Commands"`,
    '.SH NAME',
    `${escapeText(name)} \\- ${escapeText(summary(command.description))}`,
    '.SH SYNOPSIS',
    `.B ${escapeText(command === tree ? tree.name : `${tree.name} ${command.name}`)}`,
    escapeText(command.usage),
    '.SH DESCRIPTION',
    escapeText(sentence(command.description)),
    ...(command.options.length > 0 ? ['.SH OPTIONS', ...command.options.flatMap(optionEntry)] : []),
    ...(command.commands.length > 0 ? ['.SH COMMANDS', ...commandEntries(tree, command)] : []),
    ...sections(command),
    '.SH SEE ALSO',
    others.map((other) => `.BR ${escapeText(other)} (1)`).join(',\n'),
  ];
  return `${lines.join('\n')}\n`;
}

function optionEntry(option: OptionNode): string[] {
  return ['.TP', `.B ${escapeText(option.flags)}`, escapeText(sentence(option.description))];
}

function commandEntries(tree: CommandNode, command: CommandNode): string[] {
  return command.commands.flatMap((each) => {
    const own =
      command === tree ? [] : each.options.filter(({ long }) => long !== '--help').flatMap(optionEntry);
    return [
      '.TP',
      `.B ${escapeText(command === tree ? each.name : `${each.name} ${each.usage}`.trim())}`,
      escapeText(sentence(each.description)),
      ...(own.length > 0 ? ['.RS', ...own, '.RE'] : []),
    ];
  });
}

/** `Examples:` and the lines under it become a section; the list of commands is there already. */
function sections(command: CommandNode): string[] {
  const lines: string[] = [];
  let wanted = false;
  let open = false;
  for (const line of [...command.after.split('\n'), '']) {
    const heading = /^(\S.*):$/.exec(line)?.[1];
    if (heading !== undefined) {
      if (open) lines.push('.fi', '.RE');
      wanted = heading !== 'Commands';
      open = wanted;
      if (wanted) lines.push(`.SH ${heading.toUpperCase()}`, '.RS 2', '.nf');
    } else if (wanted && line !== '') {
      lines.push(escapeText(line.replace(/^ {2}/, '')));
    }
  }
  return open ? [...lines, '.fi', '.RE'] : lines;
}

function summary(text: string): string {
  const plain = text.replace(/\.$/, '');
  return `${plain[0]!.toLowerCase()}${plain.slice(1)}`;
}

function sentence(text: string): string {
  const plain = text.replace(/\.$/, '');
  return `${plain[0]!.toUpperCase()}${plain.slice(1)}.`;
}

/** man(7): backslashes, minus signs as such, and no line may begin as a request. */
function escapeText(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replace(/^(?=[.'])/gm, '\\&');
}
