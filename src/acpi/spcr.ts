/**
 * Serial Port Console Redirection Table (SPCR): the console is COM1. (Microsoft, "Serial Port Console
 * Redirection Table", version 1.03, revision 2 of the table)
 */
import { GSI } from '../machine/irqs.ts';
import { PORT } from '../machine/ports.ts';
import { SIGNATURE, SPCR } from './acpi.layout.ts';
import { buildTable, putPort } from './sdt.ts';

const REVISION = 2;
/** A UART with the full 16550 register set. */
const INTERFACE_16550 = 0;
/** Bit 0, the 8259; bit 1, the I/O APIC. */
const INTERRUPT_BOTH = 0b11;
const BAUD_115200 = 7;
const ONE_STOP_BIT = 1;
const TERMINAL_VT_UTF8 = 2;
const NOT_PCI = 0xffff;

export function buildSpcr(): Uint8Array {
  return buildTable(SIGNATURE.spcr, REVISION, SPCR.size, [], (table, view) => {
    table[SPCR.interfaceType] = INTERFACE_16550;
    putPort(view, SPCR.address, PORT.com1);
    table[SPCR.interruptType] = INTERRUPT_BOTH;
    table[SPCR.irq] = GSI.com1;
    view.setUint32(SPCR.gsi, GSI.com1, true);
    table[SPCR.baudRate] = BAUD_115200;
    table[SPCR.stopBits] = ONE_STOP_BIT;
    table[SPCR.terminalType] = TERMINAL_VT_UTF8;
    view.setUint16(SPCR.pciDevice, NOT_PCI, true);
    view.setUint16(SPCR.pciVendor, NOT_PCI, true);
  });
}
