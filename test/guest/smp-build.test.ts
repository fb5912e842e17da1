/** The committed SMP kernel is what its source builds, and it also runs on another VMM. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { resolve } from 'node:path';
import { TemporaryFolder } from '../cli/volt-process.ts';

setDefaultTimeout(300_000);

const SOURCE = resolve(import.meta.dir, '../../kernels/smp');
const COMMITTED = resolve(SOURCE, 'smp.elf');
/** Other compilers generate other code; kernels/README.md names this one. */
const GCC_VERSION = '12.2.0';

const gccVersion = Bun.which('gcc') ? outputOf(['gcc', '-dumpfullversion']) : 'none';
const canBuild = gccVersion !== 'none' && Bun.which('make') !== null && Bun.which('ld') !== null;

function outputOf(command: string[]): string {
  return Bun.spawnSync(command, { stdout: 'pipe', stderr: 'ignore' }).stdout.toString().trim();
}

/** Builds outside the source tree. */
function build(folder: TemporaryFolder) {
  const elf = folder.at('smp.elf');
  const command = ['make', '-C', SOURCE, `BUILD=${folder.at('build')}`, `OUT=${elf}`];
  const { exitCode, stderr } = Bun.spawnSync(command, { stdout: 'ignore', stderr: 'pipe' });
  return { elf, exitCode, stderr: stderr.toString() };
}

describe('the SMP kernel', () => {
  test.skipIf(!canBuild)('builds without a warning (needs gcc, ld and make)', () => {
    using folder = new TemporaryFolder();

    const { exitCode, stderr } = build(folder);

    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test.skipIf(!canBuild || gccVersion !== GCC_VERSION)(
    `is committed byte for byte as its source builds (needs gcc ${GCC_VERSION}, ld and make; gcc here: ${gccVersion})`,
    async () => {
      using folder = new TemporaryFolder();

      const { elf } = build(folder);

      const [built, committed] = [await Bun.file(elf).bytes(), await Bun.file(COMMITTED).bytes()];
      expect(built.length).toBe(committed.length);
      expect(Buffer.from(built).equals(committed)).toBe(true);
    },
  );

  test.skipIf(Bun.which('qemu-system-x86_64') === null)(
    'passes on a QEMU machine with 4 CPUs, found by its MADT (needs qemu-system-x86_64)',
    async () => {
      const machine = ['-M', 'q35', '-accel', 'tcg', '-smp', '4', '-m', '128'];
      const devices = ['-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio'];
      const exitPort = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4'];
      await using child = Bun.spawn(
        [
          'qemu-system-x86_64',
          ...machine,
          ...devices,
          ...exitPort,
          '-kernel',
          COMMITTED,
          '-append',
          'json quick',
        ],
        { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe', timeout: 200_000, killSignal: 'SIGKILL' },
      );

      const stdout = await new Response(child.stdout).text();

      expect(JSON.parse(stdout)).toMatchObject({
        verdict: 'pass',
        failures: [],
        cpus: { found: 4, online: 4, source: 'madt' },
        agree: true,
      });
      // isa-debug-exit: twice the status, and 1.
      expect(await child.exited).toBe(1);
    },
  );
});
