/** The guest's serial console for programs that embed Volt. */
import { ConsolePump } from '../vmm/serial/pump.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';

/** A console that is being read. */
export interface ConsoleReader {
  /**
   * Resolves when `take` was called with all output of the guest. Call it after `vm.ended`.
   */
  finish(): Promise<void>;
}

/**
 * Calls `take` with the guest's output in pieces; each piece is a copy. Call it before `vm.start()`, once per
 * VM. A guest whose console is not read stops after 64 KiB of output.
 */
export function readConsole(vm: VirtualMachine, take: (bytes: Uint8Array) => void): ConsoleReader {
  const pump = new ConsolePump(
    vm.shared,
    (bytes) => {
      take(bytes.slice());
      return bytes.length;
    },
    () => {},
  );
  void pump.run();
  return { finish: () => pump.finish(() => vm.flushConsole()) };
}
