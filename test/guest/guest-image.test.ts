/** Guests whose kernel and disk come from an OCI image. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { archiveFiles, buildTar, layoutFiles } from '../support/oci-image.ts';
import { countingGuest } from './sandboxed-disk-guest.ts';
import { buildPvhElf } from './tiny-guest.ts';

setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

describe('volt run --image', () => {
  needsKvm(
    'boots the kernel of an image; what the guest writes is not in the image, and ends with it',
    async () => {
      using folder = new TemporaryFolder();
      const layer = buildTar([
        { name: 'boot/kernel', data: buildPvhElf(countingGuest(1)) },
        { name: 'disk/root.img', data: new Uint8Array(1024 * 1024) },
      ]);
      const image = await folder.write('guest.tar', archiveFiles(layoutFiles([{ tar: layer }])));
      mkdirSync(folder.at('scratch'));
      const flags = ['--image', image, '--scratch', folder.at('scratch'), '--cpus', '1', '--memory', '64M'];

      const first = await runVolt(flags);
      const second = await runVolt(flags);

      const entries = readdirSync(folder.at('scratch'));
      const disk = readFileSync(join(folder.at('scratch'), entries[0]!, 'disk/root.img'));
      // The counter, which the guest ends at 1, and the statuses of a read, a write and a flush.
      expect([first, second].map(({ bytes, exitCode }) => [[...bytes], exitCode])).toEqual([
        [[1, 0, 0, 0], 0],
        [[1, 0, 0, 0], 0],
      ]);
      expect([first.stderr, second.stderr]).toEqual(['', '']);
      expect(entries).toHaveLength(1);
      expect(disk.every((byte) => byte === 0)).toBe(true);
    },
  );

  needsKvm('is refused with a kernel, and in one line when there is no image', async () => {
    const both = await runVolt(['--image', 'a.tar', '--kernel', 'b']);
    const missing = await runVolt(['--image', '/nonexistent.tar']);
    const alone = await runVolt(['--scratch', '/tmp']);

    expect([both, missing, alone].map(({ stderr, exitCode }) => [stderr, exitCode])).toEqual([
      ['volt: Cannot use --image with --kernel: an image has its own; remove one of the two\n', 2],
      [expect.stringMatching(/^volt: Cannot use --image \/nonexistent\.tar: ENOENT.*\n$/), 2],
      ['volt: Cannot use --scratch without --image: it has no effect there; add --image PATH\n', 2],
    ]);
  });
});
