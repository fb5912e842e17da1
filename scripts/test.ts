/**
 * The one gate: installs what is missing, then type, format, layer and include checks, build, all tests. Ends with
 * a line "N passed, N failed, N skipped".
 *
 * Usage: bun scripts/test.ts [--no-linux] [FILTER...]
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ensurePackages } from './host-packages.ts';

const root = resolve(import.meta.dir, '..');
const { values, positionals } = parseArgs({
  options: { 'no-linux': { type: 'boolean', default: false } },
  allowPositionals: true,
});

const CHECKS: readonly { readonly name: string; readonly argv: readonly string[] }[] = [
  { name: 'type check', argv: ['tsc'] },
  { name: 'format check', argv: ['prettier', '--check', '--log-level', 'warn', '.'] },
  { name: 'layer check', argv: [process.execPath, 'scripts/check-layers.ts'] },
  { name: 'include check', argv: [process.execPath, 'scripts/check-includes.ts'] },
  { name: 'build', argv: [process.execPath, 'scripts/build.ts'] },
];

/** A test that takes longer hangs, unless it says itself how long it may take. */
const HANG_MS = '60000';

try {
  process.exit(await main());
} catch (error) {
  console.error(`test: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function main(): Promise<number> {
  if (!values['no-linux']) await ensurePackages();
  for (const { name, argv } of CHECKS) {
    console.error(`== ${name}`);
    const code = await run(argv, (output) => process.stderr.write(output));
    if (code !== 0) {
      console.error(`${name} failed`);
      return 1;
    }
  }
  console.error('== tests');
  const folders = values['no-linux'] ? ['test/unit', 'test/cli', 'test/guest'] : ['test'];
  let tail = '';
  const code = await run(
    [process.execPath, 'test', '--timeout', HANG_MS, ...(positionals.length > 0 ? positionals : folders)],
    (output) => {
      process.stderr.write(output);
      tail = (tail + Buffer.from(output).toString('utf8')).slice(-4096);
    },
  );
  const count = (word: string) => Number(new RegExp(`^ *(\\d+) ${word}$`, 'm').exec(tail)?.[1] ?? 0);
  console.log(`${count('pass')} passed, ${count('fail')} failed, ${count('skip')} skipped`);
  return code === 0 && count('pass') === 0 ? 1 : code;
}

/** Runs a program of this project; both of its streams go to `onOutput`. */
async function run(argv: readonly string[], onOutput: (bytes: Uint8Array) => void): Promise<number> {
  const path = `${resolve(root, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`;
  const child = Bun.spawn([...argv], {
    cwd: root,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, PATH: path },
  });
  const pump = async (stream: ReadableStream<Uint8Array>) => {
    for await (const bytes of stream) onOutput(bytes);
  };
  await Promise.all([pump(child.stdout), pump(child.stderr)]);
  return child.exited;
}
