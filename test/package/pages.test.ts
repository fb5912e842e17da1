/** Man pages and completions, made from the option definitions, as their own programs read them. */
import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { readCommandTree, type CommandNode } from '../../scripts/package/command-tree.ts';
import { bashCompletion, fishCompletion, zshCompletion } from '../../scripts/package/completions.ts';
import { manPages } from '../../scripts/package/man-page.ts';
import { TemporaryFolder } from '../cli/volt-process.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const tree = readCommandTree();
const pages = manPages(tree, { version: '1.2.3', date: '2026-11-21' });
const folder = new TemporaryFolder();
afterAll(() => folder[Symbol.dispose]());
mkdirSync(folder.at('bin'));
for (const { file, text } of pages) writeFileSync(folder.at(file), text);
writeFileSync(folder.at('volt.bash'), bashCompletion(tree));
writeFileSync(folder.at('_volt'), zshCompletion(tree));
writeFileSync(folder.at('volt.fish'), fishCompletion(tree));

function run(...argv: string[]): { stdout: string; stderr: string } {
  const { stdout, stderr } = Bun.spawnSync(argv, {
    cwd: folder.path,
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', MANWIDTH: '200', HOME: folder.path },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  return { stdout: stdout.toString(), stderr: stderr.toString() };
}

const longOptions = (command: CommandNode) =>
  command.options.map(({ long }) => long!).filter((long) => long !== '--help');

test('there is a page for volt and for each of its commands', () => {
  expect(pages.map(({ file }) => file)).toEqual([
    'volt.1',
    ...tree.commands.map(({ name }) => `volt-${name}.1`),
  ]);
});

describe.skipIf(Bun.which('man') === null)('man (needs man)', () => {
  test.each(pages.map(({ file }) => [file]))('formats %s without a warning', (file) => {
    expect(run('man', '--warnings', '-l', '-Tutf8', '-E', 'UTF-8', file).stderr).toBe('');
  });

  test('shows every option of every command', () => {
    for (const command of tree.commands) {
      const { stdout } = run('man', '-l', `volt-${command.name}.1`);
      for (const option of longOptions(command)) expect(stdout).toContain(option);
      for (const { name } of command.commands) expect(stdout).toContain(` ${name}`);
    }
  });

  test('shows exit codes and examples as --help has them', () => {
    const { stdout } = run('man', '-l', 'volt.1');

    expect(stdout).toContain('EXIT CODES');
    expect(stdout).toContain('the guest crashed with a triple fault');
    expect(stdout).toContain('volt --config vm.json --timeline');
  });
});

describe.skipIf(Bun.which('bash') === null)('bash (needs bash)', () => {
  const complete = (...words: string[]) =>
    run(
      'bash',
      '-c',
      `source ./volt.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _volt; echo "\${COMPREPLY[*]}"`,
      'bash',
      'volt',
      ...words,
    ).stdout.trim();

  test('completes commands, options, choices and files', () => {
    expect(complete('sel')).toBe('selftest');
    expect(complete('--kern')).toBe('--kernel');
    expect(complete('inspect', '--du')).toBe('--dump');
    expect(complete('run', '--boot', 'p')).toBe('pvh');
    expect(complete('--kernel', 'volt.b')).toBe('volt.bash');
    expect(complete('ctl', '4711', 'start')).toBe('start-ap');
  });

  test.each([
    ['ctl', 'ps -q --names'],
    ['top', 'ps -q --names'],
    ['health', 'ps -q --names'],
    ['stop', 'ps -q --names'],
    ['console', 'ps -q --names'],
    ['start', 'ps -a --names'],
    ['rm', 'ps -a --names'],
  ])('completes %s with guests from volt %s', (command, printer) => {
    const script = `volt() { [[ "$*" = '${printer}' ]] && printf 'web\\n4711\\nweb-2\\n'; }; source ./volt.bash;
      COMP_WORDS=(volt ${command} we); COMP_CWORD=2; _volt; echo "\${COMPREPLY[*]}"`;

    expect(run('bash', '-c', script).stdout.trim()).toBe('web web-2');
  });

  test('completes every option of every command', () => {
    for (const command of tree.commands) {
      for (const option of longOptions(command)) {
        expect(complete(command.name, option).split(' ')).toContain(option);
      }
    }
  });
});

describe.skipIf(Bun.which('fish') === null)('fish (needs fish)', () => {
  const complete = (line: string) =>
    run('fish', '--no-config', '-c', `source volt.fish; complete -C'${line}'`).stdout.replace(/\t.*$/gm, '');

  test('completes commands, options, choices and files', () => {
    expect(complete('volt sel')).toBe('selftest\n');
    expect(complete('volt --kern')).toBe('--kernel\n');
    expect(complete('volt run --boot p')).toBe('pvh\n');
    expect(complete('volt run --kernel volt.b')).toBe('volt.bash\n');
    expect(complete('volt ctl 4711 start')).toBe('start-ap\n');
  });
});

describe.skipIf(Bun.which('zsh') === null)('zsh (needs zsh)', () => {
  // What completion functions are given, said by functions that stand in for zsh's own, which want a terminal.
  const complete = (...words: string[]) =>
    run(
      'zsh',
      '-f',
      '-c',
      `_arguments() { print -rl -- "$@" }; _describe() { print -rl -- "\${(@P)2}" }; _files() { }
       words=("$@"); CURRENT=$#; source ./_volt`,
      'zsh',
      'volt',
      ...words,
    );

  test('is offered commands and options with their descriptions', () => {
    const start = complete('');
    const inspect = complete('inspect', '');
    const ctl = complete('ctl', '');

    expect([start.stderr, inspect.stderr, ctl.stderr]).toEqual(['', '', '']);
    expect(start.stdout).toContain('doctor:check whether this host can run volt');
    expect(start.stdout).toContain('--kernel[ELF vmlinux');
    expect(inspect.stdout).toMatch(/^--dump\[.*\]:dir:_files$/m);
    expect(inspect.stdout).toMatch(/^--boot\[.*\]:protocol:\(linux bzimage pvh multiboot\)$/m);
    expect(ctl.stdout).toContain('start-ap');
  });
});
