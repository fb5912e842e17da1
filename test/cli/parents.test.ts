/** What a parent process hands down does not keep Volt from starting: one row each. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens, runVolt, TemporaryFolder } from './volt-process.ts';

setDefaultTimeout(60_000);

/** The embedded kernel by way of a shell that changes something first; "$@" is volt. */
async function runAfter(change: string) {
  const prefix = ['sh', '-c', `${change} exec "$@"`, 'sh'];
  return runVolt(['--cpus', '2', '--cmdline', 'quick'], { prefix });
}

describe.skipIf(!kvmOpens)('a parent that hands down (needs /dev/kvm)', () => {
  test.each([
    ['no environment at all', 'set -- env -i "$@";'],
    [
      'odd variables',
      'set -- env -i A= PATH= LANG=xx_YY.ZZ HOME=/nonexistent XDG_RUNTIME_DIR=x TMPDIR=/none "$@";',
    ],
    ['ignored signals', "trap '' HUP INT QUIT TERM USR1 USR2 ALRM CHLD PIPE XCPU;"],
    ['open descriptors', 'exec 5</dev/null 6</dev/null 7>/dev/null 9</dev/null;'],
    ['no stdin', 'exec 0<&-;'],
    ['a umask that takes everything', 'umask 777;'],
    ['few open files', 'ulimit -n 64;'],
    ['files of no length', 'ulimit -f 0;'],
    ['a small stack', 'ulimit -s 256;'],
    ['no locked memory', 'ulimit -l 0;'],
    ['core dumps', 'ulimit -c unlimited;'],
    ['a low priority', 'renice -n 5 $$ >/dev/null;'],
  ])('%s', async (_, change) => {
    const { stdout, stderr, exitCode } = await runAfter(change);

    expect(stderr).toBe('');
    expect(stdout).toContain('PASS');
    expect(exitCode).toBe(0);
  });

  test('a working directory that is gone', async () => {
    using folder = new TemporaryFolder();

    const { stdout, stderr, exitCode } = await runAfter(
      `mkdir '${folder.path}/gone'; cd '${folder.path}/gone'; rmdir '${folder.path}/gone';`,
    );

    expect(stderr).toBe('');
    expect(stdout).toContain('PASS');
    expect(exitCode).toBe(0);
  });

  test('closed output', async () => {
    const { exitCode } = await runAfter('exec 1>&- 2>&-;');

    expect(exitCode).toBe(0);
  });
});
