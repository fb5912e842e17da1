/**
 * Where the vCPU worker's code is: beside this file, or, in the executable, at the path that the bundler gave that
 * entry. `import.meta.url` cannot tell: compiled to bytecode it stays the path on the machine that built it.
 */
export function vcpuWorkerUrl(): string {
  const inExecutable = Bun.main.startsWith('/$bunfs/');
  return inExecutable ? '/$bunfs/root/vmm/vcpu-worker.js' : new URL('./vcpu-worker.ts', import.meta.url).href;
}
