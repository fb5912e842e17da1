/** SIGTERM: the guest is asked to power off, and ended when it does not. */
import type { VirtualMachine } from '../vmm/virtual-machine.ts';

export interface ShutdownOptions {
  /** The machine of the moment. */
  readonly vm: () => VirtualMachine;
  /** How long a guest that heard the power button may take; 0: it is not asked. */
  readonly timeoutMs: number;
  /** Ends the guest without asking it. */
  readonly stop: () => void;
  readonly say: (line: string) => void;
}

/**
 * A guest that listens reads what the event device has to tell within milliseconds; one that does not, never.
 */
const HEARD_MS = 1000;
const LOOK_EVERY_MS = 10;

/** Returns what to call on SIGTERM. Called again, it ends the guest at once. */
export function createShutdown({ vm, timeoutMs, stop, say }: ShutdownOptions): () => void {
  let asked = false;
  return () => {
    const machine = vm();
    if (asked || timeoutMs === 0 || !machine.config.acpi) return stop();
    asked = true;
    machine.pressPowerButton();
    void hearing(machine).then((heard) => {
      if (!heard) return stop();
      setTimeout(() => {
        say(`the guest did not power off within ${timeoutMs / 1000} s; ending it`);
        stop();
      }, timeoutMs).unref();
    });
  };
}

/** Whether the guest has taken note of the button. */
async function hearing(machine: VirtualMachine): Promise<boolean> {
  const deadline = performance.now() + HEARD_MS;
  while (machine.powerButtonUnheard) {
    if (performance.now() > deadline) return false;
    await Bun.sleep(LOOK_EVERY_MS);
  }
  return true;
}
