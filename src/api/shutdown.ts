/** SIGTERM: presses the power button, and ends the guest if it does not power off. */
import type { VirtualMachine } from '../vmm/virtual-machine.ts';

export interface ShutdownOptions {
  /** Returns the running machine. */
  readonly vm: () => VirtualMachine;
  /** Time to power off for a guest that has read the power button's event; 0: no event is sent. */
  readonly timeoutMs: number;
  /** Ends the guest at once. */
  readonly stop: () => void;
  readonly say: (line: string) => void;
}

/**
 * Time for the guest to read the event register: a guest with a driver does so within milliseconds.
 */
const READ_MS = 1000;
const POLL_MS = 10;

/** Returns the handler of SIGTERM. The second call ends the guest at once. */
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

/** Resolves to whether the guest has read the event in time. */
async function awaitRead(machine: VirtualMachine): Promise<boolean> {
  const deadline = performance.now() + READ_MS;
  while (machine.powerButtonPending) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(POLL_MS);
  }
  return true;
}
