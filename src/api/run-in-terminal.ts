/** Runs a VM with this process's terminal, pipes and signals as its console: what `volt run` does. */
import type { SyscallError } from '../ffi/errno.ts';
import { openForAppend } from '../ffi/append-file.ts';
import { isTerminal } from '../ffi/terminal.ts';
import { fileSink } from '../vmm/serial/file-sink.ts';
import type { EscapeAction } from '../vmm/serial/escape-keys.ts';
import { ConsolePump, discardSink, terminalSink, type ConsoleSink } from '../vmm/serial/pump.ts';
import type { ConsoleInput } from '../vmm/serial/terminal-input.ts';
import type { ConsoleConfig } from '../config/machine-values.ts';
import { useNormalJitPolicy } from '../runtime/jit-policy.ts';
import { sampleVcpus } from '../vmm/vcpu/control.ts';
import { describeVcpu } from '../vmm/vcpu/sample.ts';
import type { ThreadFilters } from '../vmm/sandbox.ts';
import { EXIT_CODE, type VmEnd } from '../vmm/vm-end.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import { ResetLimit } from './reset-limit.ts';
import { END_SIGNALS, handledSignals } from './end-signals.ts';
import { createShutdown } from './shutdown.ts';

/** How a run in a terminal ended. */
export interface TerminalRun {
  readonly end: VmEnd;
  /** The code the process should exit with: the guest's, or 128 + n after signal n. */
  readonly exitCode: number;
}

const STDIN = 0;
const STDOUT = 1;
/** As after an interrupt by Ctrl-C, which a raw terminal cannot send. */
const LEFT_BY_KEY = 130;

const HELP = [
  'Ctrl-A x       end the guest and leave Volt',
  'Ctrl-A s       state and RIP of each vCPU',
  'Ctrl-A h       this help',
  'Ctrl-A Ctrl-A  send Ctrl-A to the guest',
];

export interface TerminalOptions {
  readonly console: ConsoleConfig;
  /** Called with each line that Volt itself has to say. */
  readonly say: (line: string) => void;
  /** Makes the next machine when the guest resets itself; undefined: that ends it. */
  readonly restart: (() => VirtualMachine) | undefined;
  /** Whether a guest that resets itself again and again without coming up is given up. */
  readonly limitResets: boolean;
  /** How long the guest may take to power off after SIGTERM; 0: it is not asked. */
  readonly shutdownMs: number;
  /**
   * Called when all that the run needs is open, before the first guest instruction. Returns the system call
   * filters for the threads of each machine, if they are to have any.
   */
  readonly beforeStart?: () => ThreadFilters | undefined;
}

/**
 * Starts `first` and resolves when it, or the last machine that `restart` made, has ended, with the terminal
 * restored and all output written. Machines that were restarted are disposed of.
 */
export async function runInTerminal(
  first: VirtualMachine,
  { console, say, restart, limitResets, shutdownMs, beforeStart }: TerminalOptions,
): Promise<TerminalRun> {
  let vm = first;
  let exitCode: number | undefined;
  const stop = (code: number) => {
    exitCode ??= code;
    void vm.stop();
  };
  const sink = openSink(console, say);
  const onBroken = (error: SyscallError) => {
    const why = error.code === 'EPIPE' ? "the console's reader went away" : 'the console cannot be written';
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
  const send = (bytes: Uint8Array) => {
    typed ||= input?.isTerminal === true;
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
      if (console.kind === 'stdio') input ??= await openInput(send, onKey, say);
      const end = await vm.ended;
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

/** Loaded late, because the streams of stdin take longer to load than a guest takes to start. */
async function openInput(
  send: (bytes: Uint8Array) => number,
  onKey: (action: EscapeAction) => void,
  say: (line: string) => void,
): Promise<ConsoleInput> {
  const { openConsoleInput } = await import('../vmm/serial/terminal-input.ts');
  return openConsoleInput(send, onKey, () => say('Ctrl-A x ends the guest, Ctrl-A h helps'));
}

async function showVcpus(vm: VirtualMachine, say: (line: string) => void): Promise<void> {
  // One that cannot be sampled is shown as of its last sample.
  await sampleVcpus(vm.vcpus).catch((error: Error) => say(error.message));
  for (const vcpu of vm.vcpus) say(describeVcpu(vcpu, vm.symbols.describe));
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

/** True when stderr lines must end in CR LF because the terminal is in raw mode. */
export function stderrIsTerminal(): boolean {
  return isTerminal(2);
}

/** Whether somebody may be looking at stdout. */
export function stdoutIsTerminal(): boolean {
  return isTerminal(STDOUT);
}
