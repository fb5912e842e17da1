/** Serial Port Console Redirection Table: the firmware's console is COM1. (Microsoft, revision 2) */
import { GSI } from '../machine/irqs.ts';
import { PORT } from '../machine/ports.ts';
import { SIGNATURE, SPCR } from './acpi.layout.ts';
import { buildTable, putPort } from './sdt.ts';

const REVISION = 2;
/** Fully 16550-compatible. */
const INTERFACE_16550 = 0;
/** By the 8259 (bit 0) and by the I/O APIC (bit 1). */
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
