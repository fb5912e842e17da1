/** Builds the one executable, `./volt`. Usage: npx bun scripts/build.ts [OUTFILE] */
import { resolve } from 'node:path';
import { helpText } from '../src/cli/program.ts';
import { buildSandbox } from '../src/sandbox/prebuilt.ts';
import { sealExecutable } from './seal-executable.ts';
import { addStartCheck } from './start-check.ts';

const root = resolve(import.meta.dir, '..');

/** Workers are entry points of their own: they are found by their paths inside the executable. */
const ENTRIES = ['src/cli/main.ts', 'src/vmm/vcpu/worker.ts', 'src/virtio/host/worker.ts'];

/** The folder that Volt is started in is the user's: nothing there may change what Volt is. */
const STAND_ALONE = [
  '--no-compile-autoload-dotenv',
  '--no-compile-autoload-bunfig',
  '--no-compile-autoload-tsconfig',
  '--no-compile-autoload-package-json',
];

/**
 * Code that only starts a guest runs once: compiling it to machine code is wasted. Whoever enters a loop that lasts
 * goes back to the normal policy (src/runtime/jit-policy.ts).
 */
const START_UP_JIT = ['--compile-jit-policy', '50'];

/** A subcommand's code is read when it is called; only ES modules can be split. */
const CHUNKS = ['--format', 'esm', '--splitting'];

/** Otherwise the folder that Volt is built in would be part of the executable, which is to be the same everywhere. */
const NO_BUILD_PATH = ['--define', 'import.meta.url="file:///volt/"'];

/** A string that contains JSON, as a JavaScript literal. */
const SANDBOX = ['--define', `PREBUILT_SANDBOX=${JSON.stringify(JSON.stringify(buildSandbox()))}`];

/** `volt --help` prints it without loading the command line. */
const HELP = ['--define', `PREBUILT_HELP=${JSON.stringify(helpText())}`];

/** Throws with the compiler's output when it fails. */
export function buildVolt(outfile: string = resolve(root, 'volt')): void {
  // Files that the executable contains.
  run([process.execPath, 'scripts/build-web.ts'], 'the page of volt web');
  run([process.execPath, 'scripts/config-schema.ts'], 'the schema of configurations');
  compile(ENTRIES, outfile);
  sealExecutable(outfile);
  addStartCheck(outfile);
}

/** Compiles a program of these files, as Volt is compiled. Throws with the compiler's output when it fails. */
export function compile(entries: readonly string[], outfile: string): void {
  const flags = [
    '--compile',
    '--minify',
    '--bytecode',
    ...CHUNKS,
    ...START_UP_JIT,
    ...STAND_ALONE,
    ...NO_BUILD_PATH,
    ...SANDBOX,
    ...HELP,
  ];
  const argv = ['build', ...flags, ...entries, '--outfile', outfile];
  run([process.execPath, ...argv], outfile);
}

function run(argv: string[], what: string): void {
  const { exitCode, stdout, stderr } = Bun.spawnSync(argv, { cwd: root, stdout: 'pipe', stderr: 'pipe' });
  if (exitCode !== 0) throw new Error(`Cannot build ${what}:\n${stdout}${stderr}`);
}

if (import.meta.main) {
  const outfile = resolve(process.argv[2] ?? resolve(root, 'volt'));
  buildVolt(outfile);
  console.error(`built ${outfile}`);
}
