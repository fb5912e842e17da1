/** Locations of Workers' code, in the source tree or in the compiled executable, and their errors. */
import { resolve } from 'node:path';
import { VoltError } from '../volt-error.ts';

/** What scripts/build.ts defines as `import.meta.url` in the executable. */
const EXECUTABLE_URL = 'file:///volt/';

/**
 * The URL of a Worker's entry point, `entry` being its path below `src/` without extension. In the executable
 * it lies at the path that the bundler gave it. Throws in a bundle made elsewhere, which does not contain it.
 */
export function workerUrl(entry: string): string {
  if (isExecutable()) return `/$bunfs/root/${entry}.js`;
  if (isSource()) return new URL(`../${entry}.ts`, import.meta.url).href;
  throw new VoltError(
    'host',
    "Cannot start a thread: Volt is part of a bundle, which lacks its workers; bundle the program with '--external volt'",
  );
}

function isExecutable(): boolean {
  return import.meta.url === EXECUTABLE_URL;
}

function isSource(): boolean {
  return import.meta.url.endsWith('/runtime/worker-url.ts');
}

/** The directory that later Workers load their code from; undefined where there are no source files. */
export function sourceDirectory(): string | undefined {
  return isSource() ? resolve(import.meta.dir, '..') : undefined;
}

/**
 * The one line with the error from Bun's message for an uncaught error in a Worker, which also has an excerpt
 * of the source and a stack trace.
 */
export function workerErrorLine(message: string): string {
  const line = /^\s*(?:\w*[Ee]rror): .*$/m.exec(message) ?? /^.*$/m.exec(message);
  return `${line?.[0].trim()} (a defect of Volt; please report it)`;
}
