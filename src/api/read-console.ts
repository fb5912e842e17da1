/** The guest's serial console for programs that embed Volt. */
import { ConsolePump } from '../vmm/serial/pump.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';

/** A console that is being read. */
export interface ConsoleReader {
  /**
   * Resolves when `take` was called with everything that the guest printed. To be called after `vm.ended`.
   */
  finish(): Promise<void>;
}

/**
 * Calls `take` with everything that the guest prints, piece by piece; each piece is a copy. To be called
 * before `vm.start()`, once for a VM. A guest whose console is not read stops after 64 KiB of output.
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
