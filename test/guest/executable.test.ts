/** The executable is all that is needed: it runs where neither its source nor its packages are. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { copyFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { canChangeMounts, inOwnMounts } from '../cli/own-mounts.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';

setDefaultTimeout(120_000);

const REPOSITORY = resolve(import.meta.dir, '../..');

describe.skipIf(!kvmOpens || !canChangeMounts)(
  'the executable (needs /dev/kvm, unshare and user namespaces)',
  () => {
    test('boots its kernel with 2 CPUs where the repository it was built in is gone', async () => {
      using folder = new TemporaryFolder();
      const copy = folder.at('volt');
      copyFileSync(VOLT, copy);
      const elsewhere = inOwnMounts(`cd / && mount -t tmpfs none '${REPOSITORY}'`);

      await using child = Bun.spawn([...elsewhere, copy, '--json', '--cmdline', 'quick'], {
        stdin: 'ignore',
        stdout: 'pipe',
        stderr: 'pipe',
        timeout: 60_000,
        killSignal: 'SIGKILL',
      });
      const [stdout, stderr] = [
        await new Response(child.stdout).text(),
        await new Response(child.stderr).text(),
      ];

      expect(stderr).toBe('');
      expect(JSON.parse(stdout)).toMatchObject({ verdict: 'pass', cpus: { online: 2 } });
      expect(await child.exited).toBe(0);
    });
  },
);
