/**
 * Memory-mapped configuration table (MCFG): where ECAM is. (PCI Firmware Specification 3.3 §4.1.2)
 */
import { putU64, viewOf } from '../binary/bytes.ts';
import type { AcpiPci } from './acpi-inputs.ts';
import { MCFG, MCFG_ALLOCATION, SIGNATURE } from './acpi.layout.ts';
import { buildTable } from './sdt.ts';

const REVISION = 1;

/** One allocation for all buses, which start at 0 and have no gaps. */
export function buildMcfg({ ecam, buses }: AcpiPci): Uint8Array {
  const allocation = new Uint8Array(MCFG_ALLOCATION.size);
  const view = viewOf(allocation);
  putU64(view, MCFG_ALLOCATION.address, ecam.address);
  view.setUint16(MCFG_ALLOCATION.segment, 0, true);
  view.setUint8(MCFG_ALLOCATION.firstBus, 0);
  view.setUint8(MCFG_ALLOCATION.lastBus, buses.length - 1);
  return buildTable(SIGNATURE.mcfg, REVISION, MCFG.size, [allocation]);
}
