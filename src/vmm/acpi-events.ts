/**
 * Events that the guest learns of by an interrupt and the event register of its DSDT: power button, CPU
 * hotplug.
 */
import { IrqLine } from '../kvm/vm.ts';
import { GSI } from '../machine/irqs.ts';
import { VM_WORD } from './bus/shared-state.ts';

export class AcpiEvents {
  readonly #words: Int32Array;
  readonly #line: IrqLine;

  /** `words` are those of VM_WORD. */
  constructor(vmFd: number, words: Int32Array) {
    this.#words = words;
    this.#line = new IrqLine(vmFd, GSI.acpiEvent);
  }

  /** Sets a bit of ACPI_EVENT, which stays until the guest reads the register, and raises an edge. */
  raise(event: number): void {
    Atomics.or(this.#words, VM_WORD.acpiEvents, event);
    this.#line.set(1);
    this.#line.set(0);
  }

  /** Whether the guest has not read the event yet. */
  isPending(event: number): boolean {
    return (Atomics.load(this.#words, VM_WORD.acpiEvents) & event) !== 0;
  }
}
