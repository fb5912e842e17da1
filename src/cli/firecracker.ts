/** `volt firecracker …`, and Volt started under the name `firecracker`. Loaded only then. */
import { runFirecracker } from '../api/firecracker/persona.ts';

/** Runs the command line behind the name, and exits. */
export async function main(words: readonly string[]): Promise<never> {
  process.exit(await runFirecracker(words));
}
