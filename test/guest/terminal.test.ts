/** Volt at a terminal: keys, help, and the terminal's settings after every way out. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens } from '../cli/volt-process.ts';
import {
  BACKGROUND,
  BROUGHT_FORWARD,
  FOREGROUND,
  STOPPED_AND_CONTINUED,
  TerminalSession,
} from './terminal-session.ts';
import { asm, echoGuest, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const WELCOME = 'Ctrl-A x ends the guest, Ctrl-A h lists the keys';
const spinner = program(asm.print('spinning\n'), asm.spin());

describe.skipIf(!kvmOpens)('an interactive terminal (needs /dev/kvm)', () => {
  test('is raw while the guest runs: keys reach it one by one, Ctrl-C and Enter as they are', async () => {
    await using session = new TerminalSession(echoGuest());
    await session.shows(WELCOME);
    await session.shows('ready\n');
    session.type('a\x03\r\x1ab');
    await session.shows('a\x03\r\x1ab');
    session.type('\x04');
    const { exitCode, before, after } = await session.ended();

    expect(exitCode).toBe(0);
    expect(after).toBe(before);
  });

  test('shows help on Ctrl-A h, which the guest does not see', async () => {
    await using session = new TerminalSession(echoGuest());
    await session.shows(WELCOME);
    session.type('\x01h');
    await session.shows('volt: Ctrl-A x       end the guest and leave Volt\r\n');
    await session.shows('volt: Ctrl-A h       list these keys\r\n');
    await session.shows('volt: Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n');
    session.type('end\x04');
    const { exitCode } = await session.ended();

    expect(session.output).toEndWith('end');
    expect(session.output).not.toContain('\x01');
    expect(exitCode).toBe(0);
  });

  test('shows where each vCPU is on Ctrl-A s, while the guest goes on', async () => {
    await using session = new TerminalSession(echoGuest());
    await session.shows(WELCOME);
    session.type('\x01s');
    await session.shows('volt: vCPU 0: running, RIP 0x10');
    session.type('end\x04');
    const { exitCode } = await session.ended();

    expect(session.output).toEndWith('end');
    expect(exitCode).toBe(0);
  });

  test('sends one Ctrl-A to the guest on two', async () => {
    await using session = new TerminalSession(echoGuest());
    await session.shows(WELCOME);
    session.type('<\x01\x01>');
    await session.shows('<\x01>');
    session.type('\x04');
    const { exitCode } = await session.ended();

    expect(exitCode).toBe(0);
  });

  test('remembers a Ctrl-A until the next key comes', async () => {
    await using session = new TerminalSession(echoGuest());
    await session.shows(WELCOME);
    session.type('one\x01');
    await session.shows('one');
    session.type('x');
    const { exitCode } = await session.ended();

    expect(session.output).toEndWith('one');
    expect(exitCode).toBe(130);
  });

  test('is left with Ctrl-A x: exit code 130, and the settings are as before', async () => {
    await using session = new TerminalSession(spinner);
    await session.shows(WELCOME);
    session.type('\x01x');
    const { exitCode, before, after } = await session.ended();

    expect(exitCode).toBe(130);
    expect(before).toContain(' icanon ');
    expect(after).toBe(before);
  });

  test('is as before after a guest that printed and ended', async () => {
    await using session = new TerminalSession(program(asm.print('done\n'), asm.exit(0)));
    const { exitCode, before, after } = await session.ended();

    expect(session.output).toContain('done');
    expect(exitCode).toBe(0);
    expect(after).toBe(before);
  });

  test('is as before after a triple fault, and the report is aligned to the left', async () => {
    const crashOnKey = program(
      asm.print('ready\r\n'),
      asm.untilZero([...asm.in8(0x3fd), 0x24, 1, 0x34, 1]),
      [0x0f, 0x0b],
    );
    await using session = new TerminalSession(crashOnKey);
    await session.shows(WELCOME);
    session.type('!');
    const { exitCode, before, after } = await session.ended();

    expect(session.output).toMatch(/ready\r\nvolt: guest crashed: triple fault on vCPU 0 at RIP 0x/);
    expect(session.output).toMatch(/\r\r?\nvolt: {3}rip {4}[^\n]*\r\r?\nvolt: {3}rax /);
    expect(exitCode).toBe(3);
    expect(after).toBe(before);
  });

  test.each([
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGQUIT', 131],
    ['SIGUSR1', 138],
    ['SIGUSR2', 140],
    ['SIGALRM', 142],
    ['SIGTERM', 143],
    ['SIGXCPU', 152],
  ] as const)('is as before after %s, which ends a spinning guest: exit code %d', async (signal, code) => {
    await using session = new TerminalSession(spinner);
    await session.shows(WELCOME);
    session.signal(signal);
    const { exitCode, before, after } = await session.ended();

    expect(exitCode).toBe(code);
    expect(after).toBe(before);
  });

  test('does not stop a background job, which runs without reading the keyboard', async () => {
    await using session = new TerminalSession(spinner, BACKGROUND);
    await session.shows('spinning');
    // Time to touch the terminal, if it were going to; too little of it can only hide a failure.
    await Bun.sleep(300);
    session.signal('SIGTERM');
    const { exitCode, before, after } = await session.ended();

    expect(session.output).not.toContain(WELCOME);
    expect(exitCode).toBe(143);
    expect(after).toBe(before);
  });

  test('is taken by a background job that is brought to the foreground', async () => {
    await using session = new TerminalSession(echoGuest(), BROUGHT_FORWARD);
    await session.shows('ready');
    await session.shows(WELCOME);
    session.type('typed\x04');
    const { exitCode, before, after } = await session.ended();

    expect(session.output).toContain('typed');
    expect(exitCode).toBe(0);
    expect(after).toBe(before);
  });

  test('is raw again after a stop and fg', async () => {
    await using session = new TerminalSession(echoGuest(), STOPPED_AND_CONTINUED);
    await session.shows(WELCOME);
    session.signal('SIGSTOP');
    await session.shows('continued');
    // Enter comes as it was typed, and Ctrl-C is a key: the terminal is raw.
    await Bun.sleep(300);
    session.type('a\x03\rb');
    await session.shows('a\x03\rb');
    session.type('\x04');
    const { exitCode } = await session.ended();

    expect(exitCode).toBe(0);
  });
});

describe.skipIf(!kvmOpens)('a signal that was ignored at the start (needs /dev/kvm)', () => {
  test('stays ignored, as with nohup', async () => {
    await using session = new TerminalSession(echoGuest(), `trap '' HUP; ${FOREGROUND}`);
    await session.shows(WELCOME);
    session.signal('SIGHUP');
    session.type('alive');
    await session.shows('alive');
    session.type('\x04');
    const { exitCode } = await session.ended();

    expect(exitCode).toBe(0);
  });
});
