/** Inputs that showed a defect, as files, and how to run them again. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes the input and what it showed; returns the path of the input. */
export function writeFinding(folder: string, target: string, input: Uint8Array, what: string): string {
  mkdirSync(folder, { recursive: true });
  const name = `${target}-${Bun.hash.xxHash32(input).toString(16).padStart(8, '0')}`;
  const path = join(folder, `${name}.bin`);
  writeFileSync(path, input);
  writeFileSync(join(folder, `${name}.txt`), `${what}\n\nAgain: ${reproduceCommand(target, path)}\n`);
  return path;
}

export function reproduceCommand(target: string, path: string): string {
  return `npm run fuzz -- --target ${target} --input ${path}`;
}

/** Two findings at the same place are one. */
export function placeOf(error: unknown): string {
  const { message = String(error), stack = '' } = error as Partial<Error>;
  return `${message.replace(/\d+/g, '#').slice(0, 80)} ${/^\s*at .*$/m.exec(stack)?.[0] ?? ''}`;
}
