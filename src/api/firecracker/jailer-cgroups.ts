/** The cgroup of a jailed microVM, of either version. (firecracker-microvm/firecracker, src/jailer/src/cgroup.rs) */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { badVersion, JailerFault, type JailerOptions } from './model/jailer-options.ts';

const MOUNTS = '/proc/mounts';

/** Creates the cgroup, writes the values into its files and joins it. `parent` is relative to the hierarchy. */
export function setUpCgroups(options: JailerOptions, parent: string): void {
  const { cgroupVersion: version, cgroupFiles: files, id } = options;
  if (files.length === 0) {
    // Only an existing parent is joined.
    if (version === 2 && existsSync(join(unifiedHierarchy(), parent)))
      join2(join(unifiedHierarchy(), parent));
    return;
  }
  if (version === 1) return setUp1(files, (controller) => join(hierarchyOf(controller), parent, id));
  if (version === 2) return setUp2(files, unifiedHierarchy(), join(unifiedHierarchy(), parent, id));
  throw badVersion(String(version));
}

function setUp1(files: JailerOptions['cgroupFiles'], pathOf: (controller: string) => string): void {
  const paths = new Set<string>();
  for (const { file, value } of files) {
    const path = pathOf(controllerOf(file));
    mkdirSync(path, { recursive: true });
    inherit(path, file);
    writeLine(join(path, file), value);
    paths.add(path);
  }
  for (const path of paths) writeLine(join(path, 'tasks'), String(process.pid));
}

/** A new cpuset is empty until it takes its parent's CPUs and nodes, which may be empty as well. */
function inherit(path: string, file: string): void {
  const parent = join(dirname(path), file);
  if (!existsSync(parent)) return;
  if (readFileSync(parent, 'utf8').trim() === '') inherit(dirname(path), file);
  const line = readFileSync(parent, 'utf8').trim();
  if (line === '')
    throw new JailerFault(
      'CgroupInheritFromParent',
      `Failed to inherit cgroups configurations from file ${file} in path ${path}`,
    );
  writeLine(join(path, file), line);
}

function setUp2(files: JailerOptions['cgroupFiles'], hierarchy: string, path: string): void {
  const available = readFileSync(join(hierarchy, 'cgroup.controllers'), 'utf8').trim().split(' ');
  mkdirSync(path, { recursive: true });
  for (const { file, value } of files) {
    const controller = controllerOf(file);
    if (!available.includes(controller)) throw unavailable(controller);
    for (const each of ancestors(hierarchy, dirname(path)))
      writeLine(join(each, 'cgroup.subtree_control'), `+${controller}`);
    writeLine(join(path, file), value);
  }
  join2(path);
}

/** Directories from `top` down to `bottom`. */
function ancestors(top: string, bottom: string): string[] {
  return bottom === top || !bottom.startsWith(top) ? [top] : [...ancestors(top, dirname(bottom)), bottom];
}

function join2(path: string): void {
  writeLine(join(path, 'cgroup.procs'), String(process.pid));
}

function controllerOf(file: string): string {
  const dot = file.indexOf('.');
  if (dot < 0) throw new JailerFault('CgroupInvalidFile', `Cgroup invalid file: ${file}`);
  return file.slice(0, dot);
}

function unavailable(controller: string): JailerFault {
  return new JailerFault('CgroupControllerUnavailable', `Controller ${controller} is unavailable`);
}

function unifiedHierarchy(): string {
  const found = mounts().find(({ type }) => type === 'cgroup2');
  if (found) return found.path;
  throw noHierarchy();
}

function hierarchyOf(controller: string): string {
  const all = mounts().filter(({ type }) => type === 'cgroup');
  if (all.length === 0) throw noHierarchy();
  const found = all.find(({ options }) => options.includes(controller));
  if (found) return found.path;
  throw unavailable(controller);
}

function noHierarchy(): JailerFault {
  return new JailerFault(
    'CgroupHierarchyMissing',
    'Hierarchy not found: No hierarchy found for this cgroup version.',
  );
}

function mounts(): { path: string; type: string; options: string[] }[] {
  return readFileSync(MOUNTS, 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .map(([, path = '', type = '', options = '']) => ({ path, type, options: options.split(',') }));
}

function writeLine(path: string, text: string): void {
  try {
    writeFileSync(path, `${text}\n`);
  } catch (error) {
    throw new JailerFault('Write', `Failed to write to ${path}: ${(error as Error).message}`);
  }
}
