/**
 * Checks the `#include "..."` lines of the embedded kernel with every test run:
 *
 * - an included file exists in the same folder;
 * - no include circles between files;
 * - none between modules either: `x.h`, `x.c` and `x.S` are one module, so x.c may not include y.h if y.c includes x.h.
 *
 * Usage: npx bun scripts/check-includes.ts [FOLDER]
 */
import { readFileSync } from 'node:fs';
import { join, parse, resolve } from 'node:path';
import { findCircles } from './circles.ts';

/** One line for each broken rule. */
export function checkIncludes(folder: string): string[] {
  const files = [...new Bun.Glob('*.{c,h,S}').scanSync(folder)].sort();
  const includes = new Map(files.map((file) => [file, includesOf(join(folder, file))]));
  const missing = files.flatMap((file) =>
    includes
      .get(file)!
      .filter((target) => !includes.has(target))
      .map((target) => `${file}: includes ${target}, which does not exist`),
  );
  const fileCircles = findCircles(includes).map((circle) => `include circle: ${circle.join(', ')}`);
  if (missing.length > 0 || fileCircles.length > 0) return [...missing, ...fileCircles];
  return findCircles(modulesOf(includes)).map((circle) => `module circle: ${circle.join(', ')}`);
}

function includesOf(path: string): string[] {
  return [...readFileSync(path, 'utf8').matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].map((match) => match[1]!);
}

/** The same graph with modules as nodes; a module's own header is no edge. */
function modulesOf(includes: ReadonlyMap<string, readonly string[]>): Map<string, string[]> {
  const modules = new Map<string, string[]>();
  for (const [file, targets] of includes) {
    const { name } = parse(file);
    const others = targets.map((target) => parse(target).name).filter((target) => target !== name);
    modules.set(name, [...(modules.get(name) ?? []), ...others]);
  }
  return modules;
}

if (import.meta.main) {
  const problems = checkIncludes(resolve(process.argv[2] ?? resolve(import.meta.dir, '../kernels/smp')));
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exit(1);
  console.error('includes: the embedded kernel has no circles of files or modules');
}
