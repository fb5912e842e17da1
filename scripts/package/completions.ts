/** Completions for bash, zsh and fish, from what `--help` knows. */
import type { CommandNode, OptionNode } from './command-tree.ts';

/** Names of values that are paths; for others nothing but their choices is offered. */
const PATHS = new Set(['file', 'path', 'dir', 'where', 'addr|path']);

const isPath = (option: OptionNode) => option.value !== undefined && PATHS.has(option.value.toLowerCase());
const words = (option: OptionNode) => [option.short, option.long].filter((word) => word !== undefined);
const allWords = (command: CommandNode) => command.options.flatMap(words);
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The command whose options also do without a command. */
const DEFAULT_COMMAND = 'run';

export function bashCompletion(tree: CommandNode): string {
  const cases = tree.commands.map((command) => {
    const others = command.commands.map(({ name }) => name);
    return `    ${command.name}) words=${quote([...allWords(command), ...others].join(' '))} ;;`;
  });
  const start = [...allWords(tree), ...optionsOf(tree, DEFAULT_COMMAND), ...names(tree)].join(' ');
  return `# bash completion for volt; made from its option definitions
_volt() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command= word words
  COMPREPLY=()
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      ${names(tree).join('|')}) command=$word; break ;;
    esac
  done
  case $previous in
${valueCases(tree)}
  esac
  case $command in
${cases.join('\n')}
    *) words=${quote([...new Set(start.split(' '))].join(' '))} ;;
  esac
  # The first word of these is a guest: its name, its process id, or the path of its socket.
  case $command in
    ${guestCommands(RUNNING)})
      [[ \${COMP_WORDS[COMP_CWORD-1]} = "$command" ]] && words="$("\${COMP_WORDS[0]}" ${RUNNING} 2>/dev/null) $words" ;;
    ${guestCommands(DEFINED)})
      [[ \${COMP_WORDS[COMP_CWORD-1]} = "$command" ]] && words="$("\${COMP_WORDS[0]}" ${DEFINED} 2>/dev/null) $words" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ $command = ctl && \${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$current"))
}
complete -o filenames -F _volt volt
`;
}

/** What follows an option with a value. The same option means the same in every command. */
function valueCases(tree: CommandNode): string {
  const options = new Map<string, OptionNode>();
  for (const command of tree.commands) {
    for (const option of command.options) if (option.value !== undefined) options.set(option.long!, option);
  }
  return [...options.values()]
    .filter((option) => !option.optionalValue)
    .map((option) => {
      const reply = isPath(option)
        ? 'COMPREPLY=($(compgen -f -- "$current"))'
        : option.choices.length > 0
          ? `COMPREPLY=($(compgen -W ${quote(option.choices.join(' '))} -- "$current"))`
          : ':';
      return `    ${words(option).join('|')}) ${reply}; return ;;`;
    })
    .join('\n');
}

export function zshCompletion(tree: CommandNode): string {
  const spec = (option: OptionNode) => {
    const text = option.description.replace(/[[\]:]/g, (character) => `\\${character}`);
    const action = isPath(option)
      ? '_files'
      : option.choices.length > 0
        ? `(${option.choices.join(' ')})`
        : ' ';
    const value =
      option.value === undefined
        ? ''
        : `${option.optionalValue ? '::' : ':'}${option.value.replaceAll(':', '')}:${action}`;
    return words(option).map((word) => quote(`${word}[${text}]${value}`));
  };
  const specs = (command: CommandNode) => command.options.flatMap(spec).join(' \\\n        ');
  const describe = (commands: readonly CommandNode[]) =>
    commands.map(({ name, description }) => quote(`${name}:${description.replaceAll(':', '\\:')}`)).join(' ');
  const guests = (name: string) =>
    TAKE_GUESTS.has(name)
      ? `'1:guest:{ compadd -- $(volt ${TAKE_GUESTS.get(name)} 2>/dev/null); _files }' \\\n        `
      : '';
  const cases = tree.commands.map((command) =>
    command.commands.length > 0
      ? `      ${command.name})
        _arguments ${guests(command.name)}'2:command:((${describe(command.commands).replaceAll("'", '"')}))' ;;`
      : `      ${command.name})
        _arguments \\
        ${guests(command.name)}${specs(command)} ;;`,
  );
  return `#compdef volt
# zsh completion for volt; made from its option definitions
_volt() {
  local -a commands=(${describe(tree.commands)})
  local line state
  if (( CURRENT > 2 )) && (( \${commands[(I)\${words[2]}:*]} )); then
    local command=\${words[2]}
    shift words
    (( CURRENT-- ))
    case $command in
${cases.join('\n')}
    esac
    return
  fi
  _describe command commands
  _arguments \\
        ${specs(tree)} \\
        ${specs(tree.commands.find(({ name }) => name === DEFAULT_COMMAND)!)}
}
_volt "$@"
`;
}

export function fishCompletion(tree: CommandNode): string {
  const line = (condition: string, option: OptionNode) =>
    [
      `complete -c volt -n ${quote(condition)}`,
      option.short ? `-s ${option.short.slice(1)}` : '',
      option.long ? `-l ${option.long.slice(2)}` : '',
      option.value !== undefined && !option.optionalValue ? '-r' : '',
      isPath(option) ? '-F' : '-f',
      option.choices.length > 0 ? `-a ${quote(option.choices.join(' '))}` : '',
      `-d ${quote(option.description)}`,
    ]
      .filter((piece) => piece !== '')
      .join(' ');
  const lines = ['# fish completion for volt; made from its option definitions', 'complete -c volt -f'];
  for (const option of tree.options) lines.push(line('__fish_use_subcommand', option));
  for (const command of tree.commands) {
    lines.push(
      `complete -c volt -n '__fish_use_subcommand' -a ${command.name} -d ${quote(command.description)}`,
    );
    const seen = `__fish_seen_subcommand_from ${command.name}`;
    const condition = command.name === DEFAULT_COMMAND ? `__fish_use_subcommand; or ${seen}` : seen;
    for (const option of command.options) lines.push(line(condition, option));
    if (TAKE_GUESTS.has(command.name))
      lines.push(
        `complete -c volt -n ${quote(seen)} -a '(volt ${TAKE_GUESTS.get(command.name)} 2>/dev/null)' -d guest`,
      );
    for (const each of command.commands) {
      lines.push(`complete -c volt -n ${quote(seen)} -a ${each.name} -d ${quote(each.description)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** What prints the running guests, and all guests that are defined. */
const RUNNING = 'ps -q --names';
const DEFINED = 'ps -a --names';
/** Commands whose first word is a guest, with what prints the guests for it. */
const TAKE_GUESTS: ReadonlyMap<string, string> = new Map([
  ['ctl', RUNNING],
  ['top', RUNNING],
  ['health', RUNNING],
  ['stop', RUNNING],
  ['console', RUNNING],
  ['start', DEFINED],
  ['restart', DEFINED],
  ['rm', DEFINED],
  ['logs', DEFINED],
  ['config', DEFINED],
  ['inspect', DEFINED],
]);

function guestCommands(printer: string): string {
  return [...TAKE_GUESTS].flatMap(([name, its]) => (its === printer ? [name] : [])).join('|');
}

function names(tree: CommandNode): string[] {
  return tree.commands.map(({ name }) => name);
}

function optionsOf(tree: CommandNode, name: string): string[] {
  return tree.commands.filter((command) => command.name === name).flatMap(allWords);
}
