/**
 * Enforces the layer law of src/README.md: imports go from a rank to a lower one, folders of rank 2 do not know
 * each other, only ffi/ imports bun:ffi, and cli/ knows api/ alone.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const source = resolve(import.meta.dir, '../src');

const RANK: Readonly<Record<string, number>> = {
  binary: 0,
  machine: 0,
  '': 0,
  ffi: 1,
  memory: 2,
  kvm: 2,
  boot: 2,
  acpi: 2,
  smp: 2,
  cpuid: 2,
  sandbox: 2,
  devices: 3,
  vmm: 4,
  api: 5,
  cli: 6,
};

/** Folders whose code must stay free of effects, so that it can be tested anywhere. */
const PURE = new Set(['binary', 'machine', 'boot', 'acpi', 'smp', 'cpuid', 'sandbox', 'devices']);

const problems: string[] = [];
for (const file of new Bun.Glob('**/*.ts').scanSync(source)) {
  const folder = folderOf(file);
  if (RANK[folder] === undefined) problems.push(`${file}: folder ${folder} has no rank`);
  for (const target of imports(readFileSync(join(source, file), 'utf8'))) check(file, folder, target);
}

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.error('layers: all imports go downwards');

function check(file: string, folder: string, target: string): void {
  if (target === 'bun:ffi' && folder !== 'ffi') problems.push(`${file}: only ffi/ may import bun:ffi`);
  if (!target.startsWith('.')) return;
  const imported = relative(source, resolve(source, dirname(file), target));
  if (imported.startsWith('..')) return;
  const to = folderOf(imported);
  if (to === folder) return;
  if (folder === 'cli' && to !== 'api')
    problems.push(`${file}: cli/ imports ${imported}, but may know api/ alone`);
  if (PURE.has(folder) && (to === 'ffi' || to === 'kvm' || to === 'memory')) {
    problems.push(`${file}: ${folder}/ is pure and may not import ${imported}`);
  }
  if (RANK[to]! >= RANK[folder]! && RANK[folder] !== 0) {
    problems.push(`${file}: ${folder}/ (rank ${RANK[folder]}) imports ${imported} (rank ${RANK[to]})`);
  }
  if (RANK[folder] === 0 && RANK[to] !== 0) problems.push(`${file}: rank 0 imports ${imported}`);
}

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '';
}

function* imports(text: string): Generator<string> {
  for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) yield match[1]!;
  for (const match of text.matchAll(/new URL\('([^']+)'/g)) yield match[1]!;
}
