/**
 * Which kernel modules to load, and in which order, read from the modules themselves.
 *
 * modprobe would need depmod's index, which a package that was only unpacked does not have; each module names
 * what it depends on in its .modinfo section, so neither program is needed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface KernelModule {
  /** Module name as lsmod shows it, with underscores. */
  name: string;
  /** The uncompressed ELF object. */
  data: Uint8Array;
}

/**
 * The named modules and all they depend on, dependencies first. Built-in modules are left out.
 * Throws when a name is neither a module nor built in.
 */
export function collectModules(modulesDir: string, names: readonly string[]): KernelModule[] {
  const paths = indexModules(modulesDir);
  const builtIn = new Set(readLines(join(modulesDir, 'modules.builtin')).map(moduleName));
  const collected = new Map<string, KernelModule>();

  const visit = (wanted: string): void => {
    const name = moduleName(wanted);
    if (collected.has(name) || builtIn.has(name)) return;
    const path = paths.get(name);
    if (path === undefined) throw new Error(`Cannot find kernel module ${name}: not in ${modulesDir}`);
    const data = readModule(path);
    for (const dependency of readDependencies(data)) visit(dependency);
    collected.set(name, { name, data });
  };
  for (const name of names) visit(name);
  return [...collected.values()];
}

/** Module names that an ELF module's `depends=` entry lists. */
export function readDependencies(module: Uint8Array): string[] {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  const start = bytes.indexOf('\0depends=');
  if (start === -1) return [];
  const listStart = start + '\0depends='.length;
  const list = bytes.toString('latin1', listStart, bytes.indexOf(0, listStart));
  return list.split(',').filter((name) => name !== '');
}

function indexModules(modulesDir: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const file of readdirSync(join(modulesDir, 'kernel'), { recursive: true, encoding: 'utf8' })) {
    if (/\.ko(\.xz)?$/.test(file)) paths.set(moduleName(file), join(modulesDir, 'kernel', file));
  }
  return paths;
}

function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');
}

function readModule(path: string): Uint8Array {
  if (!path.endsWith('.xz')) return readFileSync(path);
  const xz = Bun.spawnSync(['xz', '-dc', path]);
  if (xz.exitCode !== 0) throw new Error(`Cannot unpack ${path}: xz exit code ${xz.exitCode}`);
  return xz.stdout;
}

function readLines(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n').filter(Boolean);
}
