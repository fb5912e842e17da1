/** Where the code of Workers lies: beside this folder, or inside the executable. */
import { resolve } from 'node:path';

/**
 * URL of a worker's entry point, given by its path below `src/` without the extension. The executable has each entry
 * at the path that the bundler gave it. `import.meta.url` cannot tell the two apart: compiled to bytecode it stays
 * the path on the machine that built it.
 */
export function workerUrl(entry: string): string {
  return isExecutable() ? `/$bunfs/root/${entry}.js` : new URL(`../${entry}.ts`, import.meta.url).href;
}

function isExecutable(): boolean {
  return Bun.main.startsWith('/$bunfs/');
}

/** Where the code of a worker that is made later is read from; undefined where it is part of the executable. */
export function sourceDirectory(): string | undefined {
  return isExecutable() ? undefined : resolve(import.meta.dir, '..');
}

/** The runtime's message for an error that escaped a worker has a piece of source and a stack around it. */
export function workerErrorLine(message: string): string {
  const line = /^\s*(?:\w*[Ee]rror): .*$/m.exec(message) ?? /^.*$/m.exec(message);
  return `${line?.[0].trim()} (a defect of Volt; please report it)`;
}
