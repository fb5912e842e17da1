/** Builds the one executable, `./volt`. Usage: bun scripts/build.ts [OUTFILE] */
import { resolve } from 'node:path';

const root = resolve(import.meta.dir, '..');

/** Workers are entry points of their own: they are found by their paths inside the executable. */
const ENTRIES = ['src/cli/main.ts', 'src/vmm/vcpu-worker.ts', 'src/vmm/virtio-worker.ts'];

/** Throws with the compiler's output when it fails. */
export function buildVolt(outfile: string = resolve(root, 'volt')): void {
  const argv = ['build', '--compile', '--minify', '--bytecode', ...ENTRIES, '--outfile', outfile];
  const build = Bun.spawnSync([process.execPath, ...argv], { cwd: root, stdout: 'pipe', stderr: 'pipe' });
  if (build.exitCode !== 0) throw new Error(`Cannot build ${outfile}:\n${build.stdout}${build.stderr}`);
}

if (import.meta.main) {
  const outfile = resolve(process.argv[2] ?? resolve(root, 'volt'));
  buildVolt(outfile);
  console.error(`built ${outfile}`);
}
