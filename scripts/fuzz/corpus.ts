/** Inputs that came to something new, as files: those of the repository, and those that this machine's runs have kept. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Few and short: what reaches most. */
const SEED_CORPUS = resolve(import.meta.dir, 'corpus');

/** The inputs in a folder, in the order of their names. */
export function readInputs(folder: string): Uint8Array[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => new Uint8Array(readFileSync(join(folder, name))));
}

export function seedFolder(target: string): string {
  return join(SEED_CORPUS, target);
}

/** Writes an input under the name of its hash. */
export function keepInput(folder: string, input: Uint8Array): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${Bun.hash.xxHash32(input).toString(16).padStart(8, '0')}.bin`), input);
}
