/** System Locality Distance Information Table (SLIT): the distances between nodes. (ACPI 6.5 §5.2.17) */
import { putU64 } from '../binary/bytes.ts';
import { SIGNATURE, SLIT } from './acpi.layout.ts';
import type { NodeMatrix } from './acpi-inputs.ts';
import { buildTable } from './sdt.ts';

const REVISION = 1;

/** A byte for each pair of nodes: 10 for a node itself, 255 for unreachable. */
export function buildSlit(distances: NodeMatrix): Uint8Array {
  return buildTable(
    SIGNATURE.slit,
    REVISION,
    SLIT.size,
    distances.map((row) => Uint8Array.from(row)),
    (_, view) => {
      putU64(view, SLIT.localities, distances.length);
    },
  );
}
