/**
 * Where a worker's code is: beside this file, or, in the executable, at the path that the bundler gave that
 * entry. `import.meta.url` cannot tell: compiled to bytecode it stays the path on the machine that built it.
 */
function workerUrl(name: string): string {
  const inExecutable = Bun.main.startsWith('/$bunfs/');
  return inExecutable ? `/$bunfs/root/vmm/${name}.js` : new URL(`./${name}.ts`, import.meta.url).href;
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
