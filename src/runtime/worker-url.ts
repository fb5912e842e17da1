/** Locations of Workers' code, in the source tree or in the compiled executable, and their errors. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { VoltError } from '../volt-error.ts';

/** What scripts/build.ts defines as `import.meta.url` in the executable. */
const EXECUTABLE_URL = 'file:///volt/';

/**
 * Where the bundler puts the workers of the package `volt`, below the output folder or in `bun build
 * --compile`.
 */
const BUNDLED_SOURCE = 'node_modules/volt/src';

/**
 * The URL of a Worker's entry point, `entry` being its path below `src/` without extension. Bundles have it
 * where the bundler put it. Throws VoltError 'host' in a bundle without it.
 */
export function workerUrl(entry: string): string {
  if (isExecutable()) return `/$bunfs/root/${entry}.js`;
  if (isSource()) return new URL(`../${entry}.ts`, import.meta.url).href;
  const worker = `${BUNDLED_SOURCE}/${entry}.js`;
  const folder = bundleFolder(worker);
  if (folder !== undefined) return join(folder, worker);
  throw new VoltError(
    'host',
    `Cannot start a thread: the bundle has no ${worker}; see "Bundles" in Volt's docs/library.md`,
  );
}

/**
 * The directory that later Workers load their code from; undefined in an executable, which contains it.
 */
export function sourceDirectory(): string | undefined {
  if (isExecutable() || isCompiled()) return undefined;
  return isSource() ? resolve(import.meta.dir, '..') : bundleFolder(BUNDLED_SOURCE);
}

function isExecutable(): boolean {
  return import.meta.url === EXECUTABLE_URL;
}

/** By `bun build --compile`. With --bytecode, `import.meta.url` is the path on the build machine. */
function isCompiled(): boolean {
  return Bun.main.startsWith('/$bunfs/');
}

function isSource(): boolean {
  return !isCompiled() && import.meta.url.endsWith('/runtime/worker-url.ts');
}

/** The folder of this bundle, or one above it, that contains `path`. */
function bundleFolder(path: string): string | undefined {
  let folder = isCompiled() ? dirname(Bun.main) : import.meta.dir;
  for (; !existsSync(join(folder, path)); folder = dirname(folder)) if (folder === '/') return undefined;
  return folder;
}

/**
 * The one line with the error from Bun's message for an uncaught error in a Worker, which also has an excerpt
 * of the source and a stack trace.
 */
export function workerErrorLine(message: string): string {
  const line = /^\s*(?:\w*[Ee]rror): .*$/m.exec(message) ?? /^.*$/m.exec(message);
  return `${line?.[0].trim()} (a defect of Volt; please report it)`;
}
