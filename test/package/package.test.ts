/** What `bun scripts/package.ts` makes, with Debian's own tools. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { buildRelease } from '../../scripts/package.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { canMakeSystems, DebianSystem, type Ran } from './debian-system.ts';

/** Compressing 110 MB takes its time. */
setDefaultTimeout(600_000);

/** 0 is all closed, 10 all open; systemd calls up to 2 OK, which is its second best grade. */
const HIGHEST_EXPOSURE = 1.3;

const folder = new TemporaryFolder();
let made: string[];
let deb: string;

beforeAll(async () => {
  made = await buildRelease(folder.at('release'), VOLT);
  deb = made[0]!;
});
afterAll(() => folder[Symbol.dispose]());

function run(argv: readonly string[], cwd?: string): Ran {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...argv], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    ...(cwd === undefined ? {} : { cwd }),
  });
  return { stdout: stdout.toString(), stderr: stderr.toString(), exitCode };
}

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

describe('a release', () => {
  test('is the same bytes when it is made again, elsewhere and under another umask', async () => {
    const before = process.umask(0o077);
    const again = await buildRelease(folder.at('again'), VOLT);
    process.umask(before);

    expect(again.map((path) => [basename(path), digest(path)])).toEqual(
      made.map((path) => [basename(path), digest(path)]),
    );
  });

  test('has sums that sha256sum agrees with', () => {
    const ran = run(['sha256sum', '--check', 'SHA256SUMS'], folder.at('release'));

    expect(ran.stdout.match(/: OK$/gm)).toHaveLength(3);
    expect(ran.exitCode).toBe(0);
  });

  test('has a tarball whose executable runs where it was unpacked', () => {
    run(['tar', '-xzf', made[1]!, '-C', folder.path]);
    const volt = join(folder.path, basename(made[1]!, '.tar.gz'), 'bin/volt');

    expect(run([volt, '--version']).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(statSync(volt).mode & 0o777).toBe(0o755);
  });

  test('has everything that its README and its documents link to', () => {
    run(['dpkg-deb', '-x', deb, folder.at('unpacked')]);
    const docs = folder.at('unpacked/usr/share/doc/volt');
    const pages = ['README.md', 'SECURITY.md', ...new Bun.Glob('docs/**/*.md').scanSync(docs)];
    const links = pages.flatMap((page) =>
      [...readFileSync(join(docs, page), 'utf8').matchAll(/\]\((?!\w+:|#)([^)#]+)/g)].map((match) =>
        join(dirname(page), match[1]!),
      ),
    );

    expect(pages.length).toBeGreaterThan(10);
    expect(links.length).toBeGreaterThan(30);
    expect(links.filter((path) => !existsSync(join(docs, path)))).toEqual([]);
  });

  test('lists every component with its licence in CycloneDX, with hashes of Volt and Bun', () => {
    const bom = JSON.parse(readFileSync(made[2]!, 'utf8')) as {
      bomFormat: string;
      specVersion: string;
      metadata: { component: { name: string; hashes: { content: string }[] } };
      components: {
        name: string;
        version: string;
        licenses: unknown[];
        hashes?: unknown[];
        'bom-ref': string;
      }[];
      dependencies: { ref: string; dependsOn: string[] }[];
    };

    expect(bom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5' });
    expect(bom.metadata.component).toMatchObject({ name: 'volt', hashes: [{ content: digest(VOLT) }] });
    const names = bom.components.map(({ name }) => name);
    for (const name of [
      'bun',
      'commander',
      'valibot',
      '@xterm/xterm',
      'preact',
      'uplot',
      'WebKit (JavaScriptCore, WTF, bmalloc)',
    ]) {
      expect(names).toContain(name);
    }
    expect(bom.components.filter(({ licenses, version }) => licenses.length === 0 || version === '')).toEqual(
      [],
    );
    expect(bom.components.find(({ name }) => name === 'bun')?.hashes).toHaveLength(1);
    const refs = bom.components.map((component) => component['bom-ref']);
    expect(
      bom.dependencies.flatMap(({ dependsOn }) => dependsOn).filter((ref) => !refs.includes(ref)),
    ).toEqual([]);
  });
});

describe.skipIf(Bun.which('lintian') === null)('the Debian package (needs lintian)', () => {
  test('has no error and no warning that is not explained', () => {
    const ran = run(['lintian', '--allow-root', '--fail-on', 'error,warning', deb]);

    expect(ran.stdout).toBe('');
    expect(ran.exitCode).toBe(0);
  });
});

describe.skipIf(!canMakeSystems)(
  'the Debian package on a Debian system (needs root, overlays and dpkg)',
  () => {
    test('installs, is upgraded with the changed configuration kept, and leaves nothing when purged', async () => {
      await using system = await DebianSystem.start();
      const newer = folder.at('newer.deb');
      await system.run(
        `dpkg-deb -R ${deb} /tmp/unpacked && sed -i 's/^Version: .*/Version: 99.0-1/' /tmp/unpacked/DEBIAN/control && sed -i 's/64/128/' /tmp/unpacked/etc/volt/demo.json && dpkg-deb -Znone -b /tmp/unpacked ${newer}`,
      );

      const installed = await system.run(`dpkg -i ${deb}`);
      const version = await system.run(
        'volt --version && man --where volt volt-run volt-ctl && dpkg --verify volt',
      );
      await system.run(`sed -i 's/"vcpu_count": 2/"vcpu_count": 1/' /etc/volt/demo.json`);
      const upgraded = await system.run(`dpkg --force-confold -i ${newer} && dpkg-query -W volt`);
      const kept = await system.run('cat /etc/volt/demo.json');
      await system.run('dpkg -L volt > /tmp/listed');
      const removed = await system.run('dpkg -r volt && test ! -e /usr/bin/volt && cat /etc/volt/demo.json');
      const listed = await system.run('wc -l < /tmp/listed; dpkg -P volt');
      const purged = await system.run(
        'while read -r path; do test -f "$path" && echo "$path"; done < /tmp/listed; test -e /etc/volt && echo /etc/volt',
      );

      expect(installed.exitCode).toBe(0);
      expect(version.stdout).toMatch(
        /^\d+\.\d+\.\d+\n(?:\/usr\/share\/man\/man1\/volt(?:-\w+)?\.1\.gz\n){3}$/,
      );
      expect(upgraded.stdout).toEndWith('volt\t99.0-1\n');
      expect(kept.stdout).toContain('"vcpu_count": 1');
      expect(removed.stdout).toContain('"vcpu_count": 1');
      expect(Number.parseInt(listed.stdout, 10)).toBeGreaterThan(20);
      expect(purged.stdout).toBe('');
    });

    test('does what systemctl start volt@demo says: the unit holds, and its command runs a guest', async () => {
      await using system = await DebianSystem.start();
      await system.run(`dpkg -i ${deb}`);

      const verified = await system.run('systemd-analyze verify volt@demo.service');
      const command = await system.run(
        `sed -n 's/^ExecStart=//p' /lib/systemd/system/volt@.service | sed 's/%i/demo/g'`,
      );
      const ran = await system.run(`mkdir -p /run/volt/demo && ${command.stdout.trim()}`);

      expect(verified).toEqual({ stdout: '', stderr: '', exitCode: 0 });
      expect(kvmOpens ? ran.stderr : '').toBe('');
      expect(kvmOpens ? ran.stdout : 'Verdict: PASS').toMatch(/pass/i);
      expect(kvmOpens ? ran.exitCode : 0).toBe(0);
    });

    test('the unit is exposed no more than KVM and taps take', async () => {
      await using system = await DebianSystem.start();
      await system.run(`dpkg -i ${deb} && ln -s volt@.service /lib/systemd/system/volt@demo.service`);

      const { stdout, exitCode } = await system.run(
        `systemd-analyze security --no-pager --offline=yes --threshold=${HIGHEST_EXPOSURE * 10} volt@demo.service`,
      );

      expect(stdout).toMatch(/Overall exposure level for volt@demo.service: [\d.]+ OK/);
      expect(exitCode).toBe(0);
    });
  },
);

describe.skipIf(Bun.which('qemu-x86_64') === null)('an old processor (needs qemu-x86_64)', () => {
  test('runs the one executable: Bun takes SSE4.2 and looks for more at run time', () => {
    const ran = run(['qemu-x86_64', '-cpu', 'Nehalem', VOLT, '--version']);

    expect(ran).toMatchObject({ stderr: '', exitCode: 0 });
  });
});
