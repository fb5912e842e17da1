/** The network device on a real tap. Needs root, or user namespaces, for a network namespace of its own. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const UNSHARE = ['unshare', ...(process.getuid?.() === 0 ? [] : ['--map-root-user']), '--net'];

function inNamespace(argv: readonly string[]) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...UNSHARE, ...argv], { timeout: 60_000 });
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

function canMakeTaps(): boolean {
  if (Bun.which('unshare') === null) return false;
  return inNamespace(['ip', 'tuntap', 'add', 'tap7', 'mode', 'tap']).exitCode === 0;
}

describe.skipIf(!canMakeTaps())(
  'a network device on a tap (needs unshare, ip and root or user namespaces)',
  () => {
    test('speaks with the kernel on the other end, checksums left to whoever finishes them, and outlives the tap', () => {
      const { stdout, stderr } = inNamespace([process.execPath, join(import.meta.dir, 'tap-machine.ts')]);

      expect(stderr).toBe('');
      expect(JSON.parse(stdout)).toEqual({
        arp: '10.0.7.1',
        question: 'question from 10.0.7.2:4660',
        answer: 'answer',
        checksumLeftToGuest: true,
        buffers: 1,
        announcements: 1,
        arpAfterMove: '10.0.7.1',
        linkStatus: 0,
        needsReset: false,
        reports: ['its tap was deleted; the guest continues with its link down'],
        twice: 'Cannot use --net tap=tap7: another program uses it; give each guest a tap of its own',
      });
    });

    test.each([
      ['there is none of that name', 'tap=tap9', 'there is no such interface'],
      ['it is not a tap', 'tap=lo', 'it is not a tap'],
      ['it has one queue', 'tap=tap7,queues=2', 'it is not a multi-queue tap'],
    ])('says so in one line when %s', (_, flag, found) => {
      const script = `ip tuntap add tap7 mode tap; exec "$1" "$2" --net ${flag}`;
      const main = join(import.meta.dir, '../../../../src/cli/main.ts');

      const { exitCode, stderr } = inNamespace(['sh', '-c', script, 'sh', process.execPath, main]);

      expect(stderr).toContain(`Cannot use --net ${flag.split(',')[0]}: ${found}`);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(exitCode).toBe(1);
    });
  },
);
