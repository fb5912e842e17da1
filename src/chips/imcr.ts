/**
 * Interrupt Mode Configuration Register (IMCR). (MPS 1.4 §3.6.2.1)
 *
 * A guest writes 0x70 to the address port 0x22 and then reads or writes the IMCR at the data port 0x23. In
 * hardware the register routes the 8259's INTR and the NMI signal: 0 straight to the BSP (PIC mode), 1
 * through the BSP's local APIC.
 *
 * Deliberate deviation: the register stores its value and routes nothing. KVM's 8259 always reaches the BSP
 * through LINT0, which Volt leaves unmasked with delivery mode ExtINT (virtual wire mode, kvm/vcpu.ts). Until
 * a guest programs LINT0 that behaves like PIC mode, and before it programs LINT0 a guest writes 1 here.
 */
export const IMCR_WORD = { address: 0, value: 1, size: 2 } as const;

const IMCR_ADDRESS = 0x70;
const UNANSWERED = 0xff;

/** Port 0x22 written. */
export function imcrSelect(words: Int32Array, address: number): void {
  words[IMCR_WORD.address] = address;
}

/** Port 0x23 written. Other addresses have no register behind them. */
export function imcrWrite(words: Int32Array, value: number): void {
  if (words[IMCR_WORD.address] === IMCR_ADDRESS) words[IMCR_WORD.value] = value;
}

/** Port 0x23 read. Reset leaves 0, which selects PIC mode. */
export function imcrRead(words: Int32Array): number {
  return words[IMCR_WORD.address] === IMCR_ADDRESS ? words[IMCR_WORD.value]! : UNANSWERED;
}
