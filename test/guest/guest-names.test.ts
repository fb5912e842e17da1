/** Guests by name: definitions, starts in the background, ends of all kinds, logs and consoles. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { kvmOpens } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { NamedVolts } from './named-volt.ts';
import { asm, echoGuest, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const spinner = program(asm.print('spinning\n'), asm.spin());

describe('a guest with a name', () => {
  needsKvm('is created, started, listed, stopped and removed', async () => {
    await using volts = new NamedVolts();
    const file = volts.configOf('web', spinner);

    const created = await volts.volt('create', file);
    const defined = await volts.list('-a');
    const started = await volts.volt('start', 'web');
    const running = await volts.list('-a');
    const stopped = await volts.volt('stop', '--now', 'web');
    const after = await volts.list();
    const removed = await volts.volt('rm', 'web');

    expect(created.stdout).toBe(`${volts.folder.at('config/volt/web.json')}\n`);
    expect(defined).toMatchObject([{ name: 'web', state: 'stopped' }]);
    expect([started, stopped, removed].map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
    expect(running).toMatchObject([{ name: 'web', state: 'running' }]);
    expect(after).toEqual([]);
    expect(await volts.list('-a')).toEqual([]);
    expect(existsSync(volts.folder.at('state/volt/web.log'))).toBe(false);
  });

  needsKvm('is started once by two that start it at the same time', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));

    const starts = await Promise.all([volts.volt('start', 'web'), volts.volt('start', 'web')]);
    const running = await volts.list();

    expect(starts.map(({ exitCode }) => exitCode).sort()).toEqual([0, 2]);
    expect(starts.map(({ stderr }) => stderr).join('')).toMatch(
      /^volt: Cannot start web: (process \d+ runs it|a guest of this name is starting); stop it, or choose another name\n$/,
    );
    expect(running).toHaveLength(1);
  });

  needsKvm('is stopped after kill -9, and starts again over what that left', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));
    await volts.volt('start', 'web');
    const [first] = await volts.list();
    process.kill(first!.pid!, 'SIGKILL');
    await waitUntil('its end', () => !existsSync(`/proc/${first!.pid}/task`));

    const killed = await volts.list('-a');
    const left = existsSync(volts.folder.at('run/volt/names/web.sock'));
    const { exitCode } = await volts.volt('restart', 'web');
    const [second] = await volts.list();

    expect(killed).toMatchObject([{ name: 'web', state: 'stopped' }]);
    expect(left).toBe(true);
    expect(exitCode).toBe(0);
    expect(second!.pid).not.toBe(first!.pid);
  });

  needsKvm('keeps its name from another, and is found by it wherever a process id is', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));
    await volts.volt('start', 'web');

    const second = await volts.volt('run', '--name', 'web', '--kernel', volts.folder.at('web.elf'));
    const status = await volts.volt('ctl', 'web', 'status');
    const top = await volts.volt('top', 'web', '--once', '--interval', '0.1');
    const health = await volts.volt('health', 'web');
    const removed = await volts.volt('rm', 'web');

    expect(second.stderr).toMatch(/^volt: Cannot start web: process \d+ runs it; /);
    expect(second.exitCode).toBe(2);
    expect(status.stdout).toMatch(/^state +running\n/);
    expect(top.exitCode).toBe(0);
    expect(health.stdout).toMatch(/^OK: guest web running/);
    expect(removed.stderr).toMatch(
      /^volt: Cannot remove web: process \d+ runs it; stop it, or use --force\n$/,
    );
  });

  needsKvm('that cannot start says why in one line, and its log has it', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));
    await Bun.file(volts.folder.at('web.elf')).delete();

    const { stderr, exitCode } = await volts.volt('start', 'web');
    const logs = await volts.volt('logs', 'web');

    expect(stderr).toMatch(/^volt: Cannot (use|load) [^\n]*web\.elf[^\n]*\n$/);
    expect(exitCode).not.toBe(0);
    expect(logs.stdout).toEndWith(stderr);
  });

  needsKvm('shows its log while it runs, to its end', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));
    await volts.volt('start', 'web');

    const following = volts.volt('logs', '-f', 'web');
    await volts.volt('stop', '--now', 'web');
    const { stdout, exitCode } = await following;
    const last = await volts.volt('logs', '-n', '0', 'web');

    expect(stdout).toContain('spinning\n');
    expect(exitCode).toBe(0);
    expect(last.stdout).toBe('');
  });

  needsKvm('without a definition is started by volt run, and ended by its name', async () => {
    await using volts = new NamedVolts();
    const kernel = volts.configOf('web', spinner).replace('.json', '.elf');
    const run = volts.volt('run', '--name', 'cache', '--kernel', kernel, '--cpus', '1', '--memory', '32M');
    await waitUntil('its socket', () => existsSync(volts.folder.at('run/volt/names/cache.sock')));

    const history = await volts.volt('logs', 'cache');
    const stopped = await volts.volt('stop', 'cache');
    const { exitCode } = await run;

    expect(history.stdout).toBe('spinning\n');
    expect(stopped.exitCode).toBe(0);
    // 128 + SIGTERM
    expect(exitCode).toBe(143);
    expect(await volts.list('-a')).toEqual([]);
  });
});

describe('the configuration of a guest with a name', () => {
  needsKvm('is the whole one, running or not, and makes the same guest', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));
    const defined = await volts.volt('config', 'web');
    await volts.volt('start', 'web');

    const running = await volts.volt('config', 'web');
    const file = await volts.folder.write('copy.json', running.stdout);
    const created = await volts.volt('create', file);

    expect(running.stdout).toBe(defined.stdout);
    expect(JSON.parse(running.stdout)).toMatchObject({
      'boot-source': { kernel_image_path: volts.folder.at('web.elf') },
      'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
      volt: { console: 'stdio', hang_report_s: 30 },
    });
    expect(created.exitCode).toBe(0);
  });

  needsKvm('is inspected by its name, with its state', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', spinner));
    await volts.volt('start', 'web');
    const [guest] = await volts.list();

    const text = await volts.volt('inspect', 'web');
    const json = JSON.parse((await volts.volt('inspect', '--json', String(guest!.pid))).stdout) as {
      guest: object;
      cpus: unknown[];
    };

    expect(text.stdout).toMatch(/^Guest +web\nState +running for [\d.]+s\n/);
    expect(text.stdout).toContain('MP tables ');
    expect(json.guest).toMatchObject({ name: 'web', state: 'running', pid: guest!.pid! });
    expect(json.cpus).toHaveLength(1);
  });
});

describe('the console of a guest with a name', () => {
  needsKvm('is attached to with its history, typed on, and left by Ctrl-A d', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', echoGuest()));
    await volts.volt('start', 'web');

    const terminal = volts.terminal('console', 'web');
    await terminal.shows('ready\n');
    await terminal.shows('Ctrl-A d detaches');
    terminal.type('hello\r');
    await terminal.shows('hello\r');
    terminal.type('\x01d');
    const exitCode = await terminal.exited;

    expect(exitCode).toBe(0);
    expect(await volts.list()).toMatchObject([{ name: 'web', state: 'running' }]);
    expect(readFileSync(volts.folder.at('state/volt/web.log'), 'latin1')).toEndWith('hello\r');
  });

  needsKvm('has several readers and one writer, whom another may replace', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', echoGuest()));
    await volts.volt('start', 'web');
    const first = volts.terminal('console', 'web');
    await first.shows('Ctrl-A d detaches');

    const reader = volts.terminal('console', 'web');
    await reader.shows('another client types on the console, so this one only reads');
    await reader.shows('Ctrl-A d detaches');
    reader.type('ignored');
    first.type('one');
    await reader.shows('one');
    const second = volts.terminal('console', '--take', 'web');
    await first.shows('another client types on the console now');
    await second.shows('Ctrl-A d detaches');
    second.type('two');
    await reader.shows('onetwo');
    second.type('\x01d');
    await first.shows('you type on the console again');
    first.type('\x04');

    expect(await Promise.all([first, reader, second].map(({ exited }) => exited))).toEqual([0, 0, 0]);
    expect(reader.output).not.toContain('ignored');
    expect(reader.output).toContain('the guest has ended');
  });

  needsKvm('takes input from a pipe, and ends with the guest', async () => {
    await using volts = new NamedVolts();
    await volts.volt('create', volts.configOf('web', echoGuest()));
    await volts.volt('start', 'web');

    const { stdout, stderr, exitCode } = await volts.run(['console', 'web'], {
      stdin: Buffer.from('from a pipe\x04'),
    });

    expect(stdout).toEndWith('from a pipe');
    expect(stderr).toMatch(/^volt: the guest has ended \([^\n]*\), exit code 0\n$/);
    expect(exitCode).toBe(0);
  });
});

describe('names', () => {
  needsKvm.each([
    ['4711', 'a process id'],
    ['a/b', 'a path'],
    ['-x', 'a flag'],
    ['names', 'a reserved name'],
    ['ä', 'a letter of another alphabet'],
    ['a'.repeat(49), 'too long'],
  ])('%p is refused: %s', async (name) => {
    await using volts = new NamedVolts();

    const { stderr, exitCode } = await volts.volt(`--name=${name}`);

    expect(stderr).toMatch(/^volt: Cannot name a guest so: [^\n]*\(expected a letter, [^\n]*\)\n$/);
    expect(exitCode).toBe(2);
  });

  needsKvm.each(['--control', '--jail=/tmp --uid=1 --gid=1'])('go without %s', async (flags) => {
    await using volts = new NamedVolts();

    const { stderr, exitCode } = await volts.volt('--name', 'web', '--cpus', '1', ...flags.split(' '));

    expect(stderr).toMatch(/^volt: Cannot use --name with --\w+: [^\n]*; remove one of them\n$/);
    expect(exitCode).toBe(2);
  });
});
