/**
 * The one gate. Without a filter: installs the missing packages, then type, format, lint, export, layer and include
 * checks, build, all tests. With filters, parts of the paths of test files: those tests alone, with a build or packages
 * only where they need them. Ends with a line "N passed, N failed, N skipped".
 *
 * Usage: npx bun scripts/test.ts [--no-linux] [FILTER...]
 */
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ensurePackages } from './host-packages.ts';

const root = resolve(import.meta.dir, '..');
const { values, positionals } = parseArgs({
  options: { 'no-linux': { type: 'boolean', default: false } },
  allowPositionals: true,
});

interface Step {
  readonly name: string;
  readonly argv: readonly string[];
}

const CHECKS: readonly Step[] = [
  { name: 'type check', argv: ['tsc'] },
  { name: 'type check of the web page', argv: ['tsc', '-p', 'web'] },
  { name: 'format check', argv: ['prettier', '--check', '--log-level', 'warn', '.'] },
  { name: 'lint', argv: ['oxlint', '--quiet'] },
  { name: 'unused exports', argv: ['knip', '--no-progress'] },
  { name: 'layer check', argv: [process.execPath, 'scripts/check-layers.ts'] },
  { name: 'link check', argv: [process.execPath, 'scripts/check-links.ts'] },
  { name: 'include check', argv: [process.execPath, 'scripts/check-includes.ts'] },
];
const BUILD: Step = { name: 'build', argv: [process.execPath, 'scripts/build.ts'] };

/** Tests that take longer hang, unless they set a limit of their own. */
const HANG_MS = '60000';

try {
  process.exit(await main());
} catch (error) {
  console.error(`test: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function main(): Promise<number> {
  const filters = positionals;
  const files = filters.length > 0 ? matchingTests(filters) : [];
  if (filters.length > 0 && files.length === 0) {
    console.error(`test: Cannot find a test file whose path has ${filters.join(' or ')} in it`);
    return 1;
  }
  const steps = filters.length > 0 ? (needsBuild(files) ? [BUILD] : []) : [...CHECKS, BUILD];
  const needsPackages = filters.length === 0 || files.some((file) => file.startsWith('test/linux/'));
  if (!values['no-linux'] && needsPackages) await ensurePackages();
  for (const { name, argv } of steps) {
    console.error(`== ${name}`);
    const code = await run(argv, (output) => process.stderr.write(output));
    if (code !== 0) {
      console.error(`${name} failed`);
      return 1;
    }
  }
  console.error('== tests');
  const folders = values['no-linux'] ? ['test/unit', 'test/cli', 'test/guest'] : ['test'];
  return runTests(filters.length > 0 ? files : folders);
}

async function runTests(paths: readonly string[]): Promise<number> {
  let tail = '';
  // The short form of the Linux tests runs in the gate; plain `bun test` leaves them out.
  const env = { VOLT_TEST_LINUX: process.env['VOLT_TEST_LINUX'] ?? 'short' };
  const argv = [process.execPath, 'test', '--timeout', HANG_MS, ...paths.map((path) => `./${path}`)];
  const code = await run(
    argv,
    (output) => {
      process.stderr.write(output);
      tail = (tail + Buffer.from(output).toString('utf8')).slice(-4096);
    },
    env,
  );
  const count = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}$`, 'm').exec(tail)?.[1] ?? 0);
  console.log(`${count('pass')} passed, ${count('fail')} failed, ${count('skip')} skipped`);
  return code === 0 && count('pass') === 0 ? 1 : code;
}

/** Test files whose paths contain one of the filters, as `bun test` would find them. */
function matchingTests(filters: readonly string[]): string[] {
  const all = [...new Bun.Glob('test/**/*.test.ts').scanSync(root)].sort();
  return all.filter((file) => filters.some((filter) => file.includes(filter.replace(/^\.\//, ''))));
}

/** Whether tests run ./volt and it is older than what it is made of. */
function needsBuild(files: readonly string[]): boolean {
  const runsVolt = files.some(
    (file) =>
      !file.startsWith('test/unit/') || readFileSync(resolve(root, file), 'utf8').includes('volt-process'),
  );
  if (!runsVolt) return false;
  const built = statSync(resolve(root, 'volt'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = [
    'src/**/*',
    'kernels/smp/smp.elf',
    'package-lock.json',
    'scripts/{build,seal-executable}.ts',
  ];
  return sources
    .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(root)])
    .some((file) => statSync(resolve(root, file)).mtimeMs > built);
}

/** Runs a program of this project; both of its streams go to `onOutput`. */
async function run(
  argv: readonly string[],
  onOutput: (bytes: Uint8Array) => void,
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  const path = `${resolve(root, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`;
  const child = Bun.spawn([...argv], {
    cwd: root,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, ...env, PATH: path },
  });
  const pump = async (stream: ReadableStream<Uint8Array>) => {
    for await (const bytes of stream) onOutput(bytes);
  };
  await Promise.all([pump(child.stdout), pump(child.stderr)]);
  return child.exited;
}
