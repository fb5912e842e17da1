/** The guest of a Firecracker persona: its machine, its console, its state. */
import type { VmConfig } from '../../config/config.ts';
import { openForAppend } from '../../ffi/append-file.ts';
import type { SyscallError } from '../../ffi/errno.ts';
import { isTerminal } from '../../ffi/terminal.ts';
import { useNormalJitPolicy } from '../../runtime/jit-policy.ts';
import { HostResources } from '../../vmm/host-resources.ts';
import type { ThreadFilters } from '../../vmm/sandbox.ts';
import { fileSink } from '../../vmm/serial/file-sink.ts';
import { ConsolePump, discardSink, terminalSink, type ConsoleSink } from '../../vmm/serial/pump.ts';
import type { ConsoleInput } from '../../vmm/serial/terminal-input.ts';
import { VirtualMachine } from '../../vmm/virtual-machine.ts';
import type { VmEnd } from '../../vmm/vm-end.ts';
import { VmControl } from '../vm-control.ts';
import type { Log } from './logger.ts';

const STDOUT = 1;

export interface MicroVmOptions {
  readonly config: VmConfig;
  /** Makes the machine; by default one that boots. */
  readonly make?: (
    config: VmConfig,
    options: { readonly resources: HostResources; readonly warn: (line: string) => void },
  ) => VirtualMachine;
  /** Its vCPUs start when they are resumed. */
  readonly paused?: boolean;
  readonly log: Log;
  /** Called when all files are open, before the first guest instruction. */
  readonly beforeStart: (machine: VirtualMachine) => ThreadFilters | undefined;
}

/** Made and started by `startMicroVm`. */
export interface MicroVm {
  readonly machine: VirtualMachine;
  readonly control: VmControl;
  /** Resolves when the guest has ended and its console is written. */
  readonly ended: Promise<VmEnd>;
}

/** Throws VoltError, SyscallError and what `make` throws if there is no machine; nothing is left behind then. */
export function startMicroVm({ config, make = boot, paused, log, beforeStart }: MicroVmOptions): MicroVm {
  const resources = new HostResources();
  let machine: VirtualMachine;
  try {
    machine = make(config, { warn: log.warn, resources });
  } catch (error) {
    resources[Symbol.dispose]();
    throw error;
  }
  const control = new VmControl(machine);
  const sink = openSink(config, log);
  const filters = beforeStart(machine);
  const onBroken = (error: SyscallError) => log.warn(`the console cannot be written to: ${error.message}`);
  const pump = new ConsolePump(machine.shared, sink, onBroken);
  const pumping = pump.run();
  if (paused) machine.startPaused(filters);
  else machine.start(filters);
  useNormalJitPolicy();
  return { machine, control, ended: finish() };

  async function finish(): Promise<VmEnd> {
    const input = await openInput(machine, config, log);
    const restore = () => input?.close();
    process.on('exit', restore);
    const end = await machine.ended;
    await pump.finish(() => machine.flushConsole());
    await Promise.race([pumping, Bun.sleep(0)]);
    restore();
    process.off('exit', restore);
    return end;
  }
}

function boot(
  config: VmConfig,
  options: { readonly resources: HostResources; readonly warn: (line: string) => void },
): VirtualMachine {
  return new VirtualMachine(config, options);
}

function openSink({ console }: VmConfig, log: Log): ConsoleSink {
  switch (console.kind) {
    case 'none':
      return discardSink;
    case 'stdio':
      return isTerminal(STDOUT) ? terminalSink(STDOUT) : fileSink(STDOUT, log.warn, 'stdout');
    case 'file':
      return fileSink(openForAppend('serial_out_path ', console.path).fd, log.warn);
  }
}

/** Input for the serial port, from stdin. A terminal has the escape key of `volt run`. */
async function openInput(
  machine: VirtualMachine,
  { console }: VmConfig,
  log: Log,
): Promise<ConsoleInput | undefined> {
  if (console.kind !== 'stdio') return undefined;
  const { openConsoleInput } = await import('../../vmm/serial/terminal-input.ts');
  return openConsoleInput(
    (bytes) => machine.sendConsole(bytes),
    (action) => {
      if (action === 'leave') void machine.stop();
    },
    () => log.debug('Ctrl-A x ends the guest'),
  );
}
