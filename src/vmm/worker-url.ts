import { resolve } from 'node:path';

/**
 * Where a worker's code is: beside this file, or, in the executable, at the path that the bundler gave that
 * entry. `import.meta.url` cannot tell: compiled to bytecode it stays the path on the machine that built it.
 */
function workerUrl(name: string): string {
  return isExecutable() ? `/$bunfs/root/vmm/${name}.js` : new URL(`./${name}.ts`, import.meta.url).href;
}

function isExecutable(): boolean {
  return Bun.main.startsWith('/$bunfs/');
}

/** Where the code of a worker that is made later is read from; undefined where it is part of the executable. */
export function sourceDirectory(): string | undefined {
  return isExecutable() ? undefined : resolve(import.meta.dir, '..');
}

export function vcpuWorkerUrl(): string {
  return workerUrl('vcpu-worker');
}

export function virtioWorkerUrl(): string {
  return workerUrl('virtio-worker');
}

/** The runtime's message for an error that escaped a worker has a piece of source and a stack around it. */
export function workerErrorLine(message: string): string {
  const line = /^\s*(?:\w*[Ee]rror): .*$/m.exec(message) ?? /^.*$/m.exec(message);
  return `${line?.[0].trim()} (a defect of Volt; please report it)`;
}
