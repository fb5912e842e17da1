/** Builds the one executable, `./volt`. Usage: bun scripts/build.ts [OUTFILE] */
import { resolve } from 'node:path';

const root = resolve(import.meta.dir, '..');
const outfile = resolve(process.argv[2] ?? resolve(root, 'volt'));

// The worker is an entry point of its own: it is found by its path inside the executable.
const entries = ['src/cli/main.ts', 'src/vmm/vcpu-worker.ts'];
const build = Bun.spawnSync(
  [process.execPath, 'build', '--compile', '--minify', '--bytecode', ...entries, '--outfile', outfile],
  { cwd: root, stdout: 'pipe', stderr: 'pipe' },
);
if (build.exitCode !== 0) {
  process.stderr.write(build.stdout);
  process.stderr.write(build.stderr);
  process.exit(1);
}
console.error(`built ${outfile}`);
