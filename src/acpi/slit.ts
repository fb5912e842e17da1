/** System Locality Information Table: how far the nodes are from one another. (ACPI 6.5 §5.2.17) */
import { putU64 } from '../binary/bytes.ts';
import { SIGNATURE, SLIT } from './acpi.layout.ts';
import { buildTable } from './sdt.ts';

const REVISION = 1;

/** `distances[from][to]`, a byte each: 10 to itself, 255 for out of reach. */
export function buildSlit(distances: readonly (readonly number[])[]): Uint8Array {
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
