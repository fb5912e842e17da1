/** Presses keys on the guest's keyboard controller, from the main thread. */
import { ctrlAltDelete, i8042IsFull, i8042Key } from '../chips/i8042.ts';
import { IrqLine } from '../kvm/vm.ts';
import { GSI } from '../machine/irqs.ts';
import { lockBus, unlockBus, type SharedState } from './bus/shared-state.ts';

/** How long a driver may take to read a key's code before the next ones are dropped. */
const READ_MS = 1000;
const POLL_MS = 2;

/** Ctrl, Alt and Delete, upon which Linux reboots. Resolves when the driver has read them, or does not read. */
export async function pressCtrlAltDelete(vmFd: number, shared: SharedState): Promise<void> {
  const { words, i8042 } = shared;
  const line = new IrqLine(vmFd, GSI.keyboard);
  for (const code of ctrlAltDelete(i8042)) {
    lockBus(words);
    const interrupts = i8042Key(i8042, code);
    unlockBus(words);
    if (interrupts) {
      line.set(1);
      line.set(0);
    }
    const deadline = performance.now() + READ_MS;
    while (i8042IsFull(i8042)) {
      if (performance.now() > deadline) return;
      await Bun.sleep(POLL_MS);
    }
  }
}
