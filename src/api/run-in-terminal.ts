/** Runs a VM with this process's stdin, stdout and signals, as `volt run` does. */
import type { SyscallError } from '../ffi/errno.ts';
import { openForAppend } from '../ffi/append-file.ts';
import { isTerminal } from '../ffi/terminal.ts';
import { fileSink } from '../vmm/serial/file-sink.ts';
import type { EscapeAction } from '../vmm/serial/escape-keys.ts';
import { ConsolePump, discardSink, terminalSink, type ConsoleSink } from '../vmm/serial/pump.ts';
import type { ConsoleInput } from '../vmm/serial/terminal-input.ts';
import type { ConsoleConfig } from '../config/machine-values.ts';
import { giveBackMemoryLater } from '../runtime/give-back-memory.ts';
import { useNormalJitPolicy } from '../runtime/jit-policy.ts';
import { sampleVcpus } from '../vmm/vcpu/control.ts';
import { describeVcpu } from '../vmm/vcpu/sample.ts';
import type { ThreadFilters } from '../vmm/sandbox.ts';
import { EXIT_CODE, type VmEnd } from '../vmm/vm-end.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import type { ConsoleHub } from './console-hub.ts';
import { ResetLimit } from './reset-limit.ts';
import { END_SIGNALS, handledSignals } from './end-signals.ts';
import { createShutdown } from './shutdown.ts';

/** How a run in a terminal ended. */
export interface TerminalRun {
  readonly end: VmEnd;
  /** Exit code for the process: the guest's, or 128 + n after signal n. */
  readonly exitCode: number;
}

const STDIN = 0;
const STDOUT = 1;
/** The exit code of SIGINT, which a terminal in raw mode cannot send. */
const LEFT_BY_KEY = 130;

const HELP = [
  'Ctrl-A x       end the guest and leave Volt',
  'Ctrl-A s       state and RIP of each vCPU',
  'Ctrl-A h       list these keys',
  'Ctrl-A Ctrl-A  send Ctrl-A to the guest',
];

export interface TerminalOptions {
  readonly console: ConsoleConfig;
  /** Gets the guest's output too, and decides whether this terminal may type. */
  readonly hub?: ConsoleHub | undefined;
  /** Called with each of Volt's own messages. */
  readonly say: (line: string) => void;
  /** Creates the next machine after a reset by the guest; undefined: a reset ends the run. */
  readonly restart: (() => VirtualMachine) | undefined;
  /** Whether to end a guest that keeps resetting itself. */
  readonly limitResets: boolean;
  /** Time for the guest to power off after SIGTERM; 0: end it at once. */
  readonly shutdownMs: number;
  /**
   * Called when all files are open, before the first guest instruction. Returns the system call filters for
   * the threads of each machine, if any.
   */
  readonly beforeStart?: () => ThreadFilters | undefined;
}

/**
 * Starts `first`. Resolves when it, or the last machine that `restart` created, has ended, the terminal is
 * restored and all output is written. Disposes of machines that were reset.
 */
export async function runInTerminal(
  first: VirtualMachine,
  { console, hub, say, restart, limitResets, shutdownMs, beforeStart }: TerminalOptions,
): Promise<TerminalRun> {
  let vm = first;
  let exitCode: number | undefined;
  const stop = (code: number) => {
    exitCode ??= code;
    void vm.stop();
  };
  const sink = withHub(openSink(console, say), hub);
  const onBroken = (error: SyscallError) => {
    const why =
      error.code === 'EPIPE' ? "the console's reader has closed the pipe" : 'cannot write to the console';
    say(`${why} (${error.code}); ending the guest`);
    stop(EXIT_CODE.failed);
  };
  const listeners = handledSignals(isTerminal(STDIN)).map((signal) => {
    const end = () => stop(128 + END_SIGNALS[signal]);
    const listener =
      signal === 'SIGTERM' ? createShutdown({ vm: () => vm, timeoutMs: shutdownMs, stop: end, say }) : end;
    process.on(signal, listener);
    return { signal, listener };
  });
  let typed = false;
  const self = {
    changed: (mayWrite: boolean) =>
      say(mayWrite ? 'you type on the console again' : 'another terminal types on the console now'),
  };
  const send = (bytes: Uint8Array) => {
    if (input?.isTerminal) {
      if (hub && !hub.mayWrite(self)) return bytes.length;
      typed = true;
    }
    return vm.sendConsole(bytes);
  };
  const onKey = (action: EscapeAction) => {
    if (action === 'leave') stop(LEFT_BY_KEY);
    else if (action === 'help') HELP.forEach((line) => say(line));
    else void showVcpus(vm, say);
  };
  let input: ConsoleInput | undefined;
  const restoreTerminal = () => input?.close();
  process.on('exit', restoreTerminal);
  try {
    const filters = beforeStart?.();
    const limit = limitResets ? new ResetLimit() : undefined;
    for (;;) {
      const startedAt = performance.now();
      typed = false;
      const pump = new ConsolePump(vm.shared, sink, onBroken);
      const pumping = pump.run();
      vm.start(filters);
      useNormalJitPolicy();
      const keepMemory = giveBackMemoryLater();
      if (console.kind === 'stdio' && !input) {
        input = await openInput(send, onKey, say);
        if (input.isTerminal) hub?.startWriting(self, true);
      }
      const end = await vm.ended;
      keepMemory();
      await pump.finish(() => vm.flushConsole());
      await Promise.race([pumping, Bun.sleep(0)]);
      if (end.kind !== 'reset' || !restart || exitCode !== undefined)
        return { end, exitCode: exitCode ?? end.exitCode };
      const reason = limit?.noteReset(performance.now() - startedAt, typed);
      if (reason !== undefined) return giveUp(end, reason);
      vm[Symbol.dispose]();
      vm = restart();
    }
  } finally {
    restoreTerminal();
    process.off('exit', restoreTerminal);
    for (const { signal, listener } of listeners) process.off(signal, listener);
  }
}

function giveUp(end: VmEnd, reason: string): TerminalRun {
  const exitCode = EXIT_CODE.failed;
  return { end: { ...end, exitCode, lines: [reason], states: [] }, exitCode };
}

/** Loaded late, because Node's streams for stdin take longer to load than a guest to start. */
async function openInput(
  send: (bytes: Uint8Array) => number,
  onKey: (action: EscapeAction) => void,
  say: (line: string) => void,
): Promise<ConsoleInput> {
  const { openConsoleInput } = await import('../vmm/serial/terminal-input.ts');
  return openConsoleInput(send, onKey, () => say('Ctrl-A x ends the guest, Ctrl-A h lists the keys'));
}

async function showVcpus(vm: VirtualMachine, say: (line: string) => void): Promise<void> {
  // A vCPU that cannot be sampled is shown with its last sample.
  await sampleVcpus(vm.vcpus).catch((error: Error) => say(error.message));
  for (const vcpu of vm.vcpus) say(describeVcpu(vcpu, vm.symbols.describe));
}

/** Hands over what the sink has taken. */
function withHub(sink: ConsoleSink, hub: ConsoleHub | undefined): ConsoleSink {
  if (!hub) return sink;
  return (bytes) => {
    const taken = sink(bytes);
    if (taken > 0) hub.note(bytes.subarray(0, taken));
    return taken;
  };
}

function openSink(config: ConsoleConfig, say: (line: string) => void): ConsoleSink {
  switch (config.kind) {
    case 'none':
      return discardSink;
    case 'stdio':
      return stdoutIsTerminal() ? terminalSink(STDOUT) : fileSink(STDOUT, say, 'stdout');
    case 'file':
      // Appended to: a log from an earlier run is never lost.
      return fileSink(openForAppend('--console file=', config.path).fd, say);
  }
}

/** Whether stderr is a terminal, which may be in raw mode and then needs CR LF. */
export function stderrIsTerminal(): boolean {
  return isTerminal(2);
}

/** Whether stdout is a terminal. */
export function stdoutIsTerminal(): boolean {
  return isTerminal(STDOUT);
}
