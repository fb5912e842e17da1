/** SIGTERM: asks the guest to power off, and ends it when it does not. */
import type { VirtualMachine } from '../vmm/virtual-machine.ts';

export interface ShutdownOptions {
  /** The machine that runs now. */
  readonly vm: () => VirtualMachine;
  /** How long a guest that has read the power button's event may take; 0: it is not asked. */
  readonly timeoutMs: number;
  /** Ends the guest without asking it. */
  readonly stop: () => void;
  readonly say: (line: string) => void;
}

/**
 * How long the guest may take to read the event register: a guest with a driver does so within milliseconds.
 */
const READ_MS = 1000;
const POLL_MS = 10;

/** Returns the handler of SIGTERM. Called a second time, it ends the guest at once. */
export function createShutdown({ vm, timeoutMs, stop, say }: ShutdownOptions): () => void {
  let asked = false;
  return () => {
    const machine = vm();
    if (asked || timeoutMs === 0 || !machine.config.acpi) return stop();
    asked = true;
    machine.pressPowerButton();
    void awaitRead(machine).then((read) => {
      if (!read) return stop();
      setTimeout(() => {
        say(`the guest did not power off within ${timeoutMs / 1000} s; ending it`);
        stop();
      }, timeoutMs).unref();
    });
  };
}

/** Whether the guest reads the event in time. */
async function awaitRead(machine: VirtualMachine): Promise<boolean> {
  const deadline = performance.now() + READ_MS;
  while (machine.powerButtonPending) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(POLL_MS);
  }
  return true;
}
