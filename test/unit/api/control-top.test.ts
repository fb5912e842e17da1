/** `volt top`, run from source, against a VM that only remembers: on a terminal, in a pipe, once. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { serveControl, type ControlServer } from '../../../src/api/control/server.ts';
import { FakeTarget, SocketFolder, until } from './control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const MAIN = resolve(import.meta.dir, '../../../src/cli/main.ts');

let folder: SocketFolder;
let target: FakeTarget;
let server: ControlServer;

beforeEach(() => {
  folder = new SocketFolder();
  mkdirSync(folder.at('volt'), { mode: 0o700 });
  target = new FakeTarget();
  server = serveControl(target, folder.at(`volt/${process.pid}.sock`));
});

afterEach(async () => {
  await server.close();
  folder[Symbol.dispose]();
});

const environment = () => ({ ...process.env, XDG_RUNTIME_DIR: folder.path, NO_COLOR: undefined });

async function volt(...args: string[]) {
  await using child = Bun.spawn([process.execPath, MAIN, ...args], {
    env: environment(),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited };
}

/** `volt top` on a pseudo-terminal, between two looks at its settings. */
class TopSession implements AsyncDisposable {
  output = '';
  readonly #child: Bun.Subprocess;

  constructor(...flags: string[]) {
    const script = 'stty -a > "$0/before"; "$@"; code=$?; stty -a > "$0/after"; exit $code';
    this.#child = Bun.spawn(['sh', '-c', script, folder.path, process.execPath, MAIN, 'top', ...flags], {
      terminal: {
        cols: 100,
        rows: 24,
        data: (_, bytes) => void (this.output += Buffer.from(bytes).toString()),
      },
      env: environment(),
    });
  }

  shows(text: string): Promise<void> {
    return until(() => this.output.includes(text));
  }

  type(keys: string): void {
    this.#child.terminal!.write(keys);
  }

  resize(columns: number, rows: number): void {
    this.#child.terminal!.resize(columns, rows);
  }

  async ended() {
    const exitCode = await this.#child.exited;
    const settings = (name: string) => readFileSync(folder.at(name), 'utf8');
    return { exitCode, before: settings('before'), after: settings('after') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
    this.#child.terminal!.close();
  }
}

const ENTER = '\x1b[?1049h';
const LEAVE = '\x1b[?1049l';

describe('volt top in a pipe', () => {
  test('--once prints one table without escape codes', async () => {
    const { stdout, stderr, exitCode } = await volt('top', '--once', '--interval', '0.1', server.path);

    expect(stdout).toMatch(
      /^guest 4711: running, 2 vCPUs, .*\nVCPU  STATE .*\n {3}0  running .*\n {3}1  waiting-for-sipi .*\n$/,
    );
    expect(stdout).not.toContain('\x1b');
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  test('prints a table for each interval until the guest ends', async () => {
    const running = volt('top', '-d', '0.1', String(process.pid));
    await until(() => target.calls.filter((call) => call === 'vcpus').length >= 3);
    await server.close();
    const { stdout, stderr, exitCode } = await running;

    expect(stdout.split('\n\n').length).toBeGreaterThan(1);
    expect(stdout).not.toContain('\x1b');
    expect([stderr, exitCode]).toEqual(['volt: the guest has ended\n', 0]);
  });

  test('--json is one object a line', async () => {
    const { stdout } = await volt('top', '--json', '--once', '--interval', '0.1', server.path);

    const answer = JSON.parse(stdout) as { vcpus: object[] };
    expect(stdout.split('\n')).toHaveLength(2);
    expect(answer).toMatchObject({ pid: 4711, state: 'running' });
    expect(answer.vcpus).toMatchObject([
      { index: 0, state: 'running', exitsPerSecond: 0, exits: {} },
      { index: 1, state: 'waiting-for-sipi', exitsPerSecond: 0, exits: {} },
    ]);
  });

  test('ends when nobody reads any more', async () => {
    await using child = Bun.spawn(
      ['sh', '-c', '"$@" | head -1', 'sh', process.execPath, MAIN, 'top', '-d', '0.1', server.path],
      {
        env: environment(),
        stdin: 'ignore',
        stdout: 'pipe',
      },
    );
    expect(await new Response(child.stdout).text()).toStartWith('guest 4711');
    expect(await child.exited).toBe(0);
  });

  test.each([
    [['--interval', '0'], 'Expected seconds from 0.1 to 3600', 2],
    [['--interval', 'x'], 'Expected seconds from 0.1 to 3600', 2],
    [['/nowhere/at/all'], 'there is no such socket', 1],
    [['--symbols', '/nowhere'], 'Cannot use --symbols /nowhere: there is no such file', 2],
  ])('%j is an error in one line', async (args, message, code) => {
    const { stdout, stderr, exitCode } = await volt('top', ...args);
    expect(stderr).toMatch(/^volt: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect([stdout, exitCode]).toEqual(['', code]);
  });

  /** Other guests of this user may run meanwhile. */
  test('needs no name of the only guest, and lists the guests when there are several', async () => {
    const alone = await volt('top', '--once', '--interval', '0.1');
    await using other = serveControl(target, folder.at('volt/1.sock'));
    const several = await volt('top', '--once');

    const named = new RegExp(`^guest 4711: |^volt: Cannot choose a guest: .*\\b${process.pid}\\b`);
    expect(alone.stdout + alone.stderr).toMatch(named);
    expect(several.stderr).toMatch(/^volt: Cannot choose a guest: \d+ run; use volt top with one of 1, /);
    expect(several.stderr).toMatch(named);
    await other.close();
  });
});

describe('volt top on a terminal', () => {
  test.each([
    ['q', 0],
    ['\x03', 0],
  ])('shows the table on the other screen until %j, and leaves the terminal as it was', async (key, code) => {
    await using session = new TopSession('-d', '0.1', server.path);
    await session.shows('EXITS/s');
    await session.shows('\x1b[32mrunning\x1b[0m');
    session.type(key);
    const { exitCode, before, after } = await session.ended();

    expect(session.output).toStartWith(ENTER);
    expect(session.output.trimEnd()).toEndWith(LEAVE);
    expect(exitCode).toBe(code);
    expect(after).toBe(before);
  });

  test('leaves the terminal as it was when the guest ends', async () => {
    await using session = new TopSession('-d', '0.1', server.path);
    await session.shows('EXITS/s');
    await server.close();
    const { exitCode, before, after } = await session.ended();

    expect(session.output).toMatch(/\x1b\[\?1049lvolt: the guest has ended\r+\n$/);
    expect(exitCode).toBe(0);
    expect(after).toBe(before);
  });

  test('looks at once on a space, and honours the width and height of the window', async () => {
    await using session = new TopSession('-d', '3600', server.path);
    await session.shows('Sampling');
    session.type(' ');
    await session.shows('STEAL%');
    session.output = '';
    session.resize(30, 3);
    await session.shows('… 2 more');
    session.type('q');
    const { exitCode } = await session.ended();

    const drawn = session.output
      .slice(0, session.output.indexOf('more'))
      .replace(/\x1b\[[?\d;]*[A-Za-z]/g, '');
    expect(Math.max(...drawn.split(/\r+\n/).map((line) => line.length))).toBeLessThanOrEqual(30);
    expect(exitCode).toBe(0);
  });
});
