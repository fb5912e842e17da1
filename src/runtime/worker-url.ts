/** Locations of Workers' code, in the source tree or in the compiled executable, and their errors. */
import { resolve } from 'node:path';

/**
 * The URL of a Worker's entry point, `entry` being its path below `src/` without extension. In the executable
 * it lies at the path that the bundler gave it. `import.meta.url` cannot tell the two cases apart: in
 * bytecode it is the path on the build machine.
 */
export function workerUrl(entry: string): string {
  return isExecutable() ? `/$bunfs/root/${entry}.js` : new URL(`../${entry}.ts`, import.meta.url).href;
}

function isExecutable(): boolean {
  return Bun.main.startsWith('/$bunfs/');
}

/** The directory that later Workers load their code from; undefined in the executable, which contains it. */
export function sourceDirectory(): string | undefined {
  return isExecutable() ? undefined : resolve(import.meta.dir, '..');
}

/**
 * The one line with the error from Bun's message for an uncaught error in a Worker, which also has an excerpt
 * of the source and a stack trace.
 */
export function workerErrorLine(message: string): string {
  const line = /^\s*(?:\w*[Ee]rror): .*$/m.exec(message) ?? /^.*$/m.exec(message);
  return `${line?.[0].trim()} (a defect of Volt; please report it)`;
}
