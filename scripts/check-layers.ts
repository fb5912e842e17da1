/**
 * Enforces the layers of src/README.md with every test run:
 *
 * - imports go from a rank to a lower one, and folders of rank 2 do not know each other;
 * - no import circles, not even of types;
 * - pure folders, and files that are pure by their name (`regs`, `device`, `spec`), reach no effect, however indirectly;
 * - of a virtio device, `open` runs on the main thread and `serve` on the device worker, so neither imports the other,
 *   and a worker loads no schemas;
 * - only ffi/ imports bun:ffi, and cli/ knows api/ alone.
 *
 * Usage: npx bun scripts/check-layers.ts [SOURCE_FOLDER]
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { findCircles } from './circles.ts';

const RANK: Readonly<Record<string, number>> = {
  binary: 0,
  machine: 0,
  '': 0,
  ffi: 1,
  runtime: 1,
  memory: 2,
  kvm: 2,
  boot: 2,
  acpi: 2,
  smp: 2,
  gdb: 2,
  trace: 2,
  cpuid: 2,
  sandbox: 2,
  schema: 2,
  json: 2,
  pci: 2,
  oci: 3,
  chips: 3,
  virtio: 3,
  config: 4,
  plan: 5,
  vmm: 6,
  api: 7,
  cli: 8,
};

/** Folders that decide and do not act, so that their code can be tested on any machine. */
const PURE_FOLDERS = new Set([
  'binary',
  'machine',
  'boot',
  'acpi',
  'smp',
  'gdb',
  'trace',
  'cpuid',
  'sandbox',
  'schema',
  'json',
  'pci',
  'oci',
  'chips',
  'virtio/transport',
  'config',
  'plan',
  'api/firecracker/http',
  'api/firecracker/request',
  'api/firecracker/model',
]);
/** The same for files of a device's folder. */
const PURE_FILES = new Set(['regs.ts', 'device.ts', 'spec.ts']);
/** What pure code may not reach. */
const EFFECT_FOLDERS = new Set(['ffi', 'runtime', 'kvm', 'memory', 'vmm', 'api', 'cli']);
const EFFECT_MODULES = /^(bun|bun:.*|node:(?!path$).*)$/;

interface Import {
  readonly target: string;
  /** `import type`: gone when the program runs. */
  readonly typeOnly: boolean;
}

/** One line for each broken rule; `source` is the folder that has the layers. */
export function checkLayers(source: string): string[] {
  const files = [...new Bun.Glob('**/*.ts').scanSync(source)].sort();
  const graph = new Map(files.map((file) => [file, importsOf(source, file)]));
  return [
    ...files.flatMap((file) => checkRanks(file, graph.get(file)!)),
    ...circlesOf(graph),
    ...files.filter(isPure).flatMap((file) => checkPurity(file, graph)),
    ...files.filter((file) => roleOf(file) === 'serve').flatMap((file) => checkServe(file, graph)),
  ];
}

function checkRanks(file: string, imports: readonly Import[]): string[] {
  const folder = folderOf(file);
  const rank = RANK[folder];
  if (rank === undefined)
    return [`${file}: folder ${folder} has no rank (scripts/check-layers.ts lists them)`];
  return imports.flatMap(({ target }) => {
    if (target === 'bun:ffi') return folder === 'ffi' ? [] : [`${file}: only ffi/ may import bun:ffi`];
    if (!isOurs(target)) return [];
    const to = folderOf(target);
    if (to === folder) return [];
    if (folder === 'cli' && to !== 'api') return [`${file}: cli/ imports ${target}, but may know api/ alone`];
    // Folders of rank 0 are one room.
    if (RANK[to]! < rank || (rank === 0 && RANK[to] === 0)) return [];
    return [`${file}: ${folder}/ (rank ${rank}) imports ${target} (rank ${RANK[to]})`];
  });
}

/** One line for each group of files that import each other in a circle. */
function circlesOf(graph: ReadonlyMap<string, readonly Import[]>): string[] {
  const targets = [...graph].map(([file, imports]) => [file, imports.map(({ target }) => target)] as const);
  return findCircles(new Map(targets)).map((circle) =>
    circle.length === 1
      ? `import circle: ${circle[0]} imports itself`
      : `import circle: ${circle.join(', ')}`,
  );
}

/** Types are no effects: a pure file may name the type of an effectful one, if their ranks allow it. */
function checkPurity(file: string, graph: ReadonlyMap<string, readonly Import[]>): string[] {
  const path = findPath(file, graph, isEffect);
  return path === undefined ? [] : [`${file} is pure and may not reach ${path.join(' -> ')}`];
}

/** A worker's bundle holds no schemas, and nothing that is for the main thread. */
function checkServe(file: string, graph: ReadonlyMap<string, readonly Import[]>): string[] {
  const path = findPath(
    file,
    graph,
    (target) => target === 'valibot' || ['open', 'spec'].includes(roleOf(target) ?? ''),
  );
  return path === undefined ? [] : [`${file} runs on a device worker and may not load ${path.join(' -> ')}`];
}

/** The imports that lead from `start` to something that `isBad`, types left out; undefined without any. */
function findPath(
  start: string,
  graph: ReadonlyMap<string, readonly Import[]>,
  isBad: (target: string) => boolean,
): string[] | undefined {
  const seen = new Set([start]);
  const paths: string[][] = [[start]];
  for (let path = paths.shift(); path !== undefined; path = paths.shift()) {
    const from = path.at(-1)!;
    for (const { target, typeOnly } of graph.get(from) ?? []) {
      if (typeOnly || seen.has(target)) continue;
      if (isBad(target)) return [...path.slice(1), target];
      seen.add(target);
      if (graph.has(target)) paths.push([...path, target]);
    }
  }
  return undefined;
}

function isEffect(target: string): boolean {
  if (!isOurs(target)) return EFFECT_MODULES.test(target);
  return EFFECT_FOLDERS.has(folderOf(target)) && !isPure(target);
}

function isPure(file: string): boolean {
  const folder = dirname(file);
  const isIn = (pure: string) => folder === pure || folder.startsWith(`${pure}/`);
  if ([...PURE_FOLDERS].some(isIn)) return true;
  return folder.startsWith('virtio/') && PURE_FILES.has(basename(file));
}

/** The thread that a file of a device's folder is for. */
function roleOf(file: string): 'open' | 'serve' | 'spec' | undefined {
  if (!/^virtio\/[\w-]+\/[\w-]+\.ts$/.test(file)) return undefined;
  const name = file === 'virtio/host/worker.ts' ? 'serve' : basename(file, '.ts');
  return name === 'open' || name === 'serve' || name === 'spec' ? name : undefined;
}

function importsOf(source: string, file: string): Import[] {
  const text = readFileSync(join(source, file), 'utf8');
  const local = (spec: string) =>
    spec.startsWith('.') ? relative(source, resolve(source, dirname(file), spec)) : spec;
  const found: Import[] = [];
  for (const match of text.matchAll(
    /^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'(\s+with\s+\{\s*type:\s*'macro')?/gm,
  ))
    // A macro runs when the program is built; to the program it is what it returned.
    found.push({ target: local(match[2]!), typeOnly: match[1] !== undefined || match[3] !== undefined });
  for (const match of text.matchAll(/import\s*\(\s*'([^']+)'/g))
    found.push({ target: local(match[1]!), typeOnly: false });
  for (const match of text.matchAll(/new URL\('([^']+)'/g))
    found.push({ target: local(match[1]!), typeOnly: false });
  return found;
}

function isOurs(target: string): boolean {
  return target.endsWith('.ts') && !target.startsWith('..');
}

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '';
}

if (import.meta.main) {
  const problems = checkLayers(resolve(process.argv[2] ?? resolve(import.meta.dir, '../src')));
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exit(1);
  console.error('layers: imports go downwards, without circles; what is pure has no effects');
}
