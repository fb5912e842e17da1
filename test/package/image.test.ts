/** The container image that `npm run image` makes, and Volt in a container of it under an engine's default profiles. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../../scripts/image.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { DockerEngine, type Ran } from '../support/docker-engine.ts';
import { obedientGuest } from '../guest/power-guest.ts';
import { countingGuest } from '../guest/sandboxed-disk-guest.ts';
import { buildPvhElf } from '../guest/tiny-guest.ts';
import { testNeeding } from '../support/needs.ts';

/** Compressing 110 MB takes its time. */
setDefaultTimeout(600_000);

const folder = new TemporaryFolder();
let image: Awaited<ReturnType<typeof buildImage>>;

beforeAll(async () => {
  image = await buildImage(folder.at('first'), VOLT, false);
});
afterAll(() => folder[Symbol.dispose]());

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

interface Described {
  readonly digest: string;
  readonly size: number;
}

function readBlob<T>({ digest: named }: Described): T {
  return JSON.parse(readFileSync(join(image.layout, 'blobs', named.replace(':', '/')), 'utf8')) as T;
}

describe('the image', () => {
  test('is the same bytes when it is made again, elsewhere and under another umask', async () => {
    const before = process.umask(0o077);
    const again = await buildImage(folder.at('again'), VOLT, false);
    process.umask(before);

    expect(again.digest).toBe(image.digest);
    expect(digest(again.archive)).toBe(digest(image.archive));
    expect(digest(again.bill)).toBe(digest(image.bill));
  });

  test('is an OCI layout in which every blob has the digest it is named by', () => {
    const blobs = readdirSync(join(image.layout, 'blobs/sha256'));

    expect(JSON.parse(readFileSync(join(image.layout, 'oci-layout'), 'utf8'))).toEqual({
      imageLayoutVersion: '1.0.0',
    });
    expect(blobs).toHaveLength(3);
    expect(blobs.map((name) => digest(join(image.layout, 'blobs/sha256', name)))).toEqual(blobs);
  });

  test('runs Volt as a user other than root, and has labels', () => {
    const index = JSON.parse(readFileSync(join(image.layout, 'index.json'), 'utf8')) as {
      manifests: Described[];
    };
    const manifest = readBlob<{ config: Described }>(index.manifests[0]!);

    const { config } = readBlob<{ config: Record<string, unknown> }>(manifest.config);

    expect(config).toMatchObject({
      User: '65532:65532',
      Entrypoint: ['/usr/bin/volt'],
      StopSignal: 'SIGTERM',
    });
    expect(Object.keys(config['Labels'] as object)).toContain('org.opencontainers.image.version');
  });

  test('holds Volt, what the dynamic linker loads for it, licences, a bill of materials, and nothing else', () => {
    const listed = Bun.spawnSync(['tar', '-tzf', largestBlob()]).stdout.toString().trim().split('\n');

    const files = listed.filter((path) => !path.endsWith('/')).map((path) => path.slice(1));
    const libraries = /^\/lib\S*\/(?:ld-linux-x86-64\.so\.2|lib(?:c|dl|m|pthread)\.so\.\d)$/;
    expect(files.filter((path) => libraries.test(path))).toHaveLength(5);
    expect(files.filter((path) => !libraries.test(path))).toEqual([
      '/usr/bin/volt',
      '/usr/share/doc/libc6/copyright',
      '/usr/share/doc/volt/copyright',
      '/usr/share/doc/volt/licences.txt',
      '/usr/share/doc/volt/volt.cdx.json',
    ]);
  });

  test('names glibc in its bill of materials, with the digests of its files', () => {
    const bill = JSON.parse(readFileSync(image.bill, 'utf8')) as {
      components: {
        name: string;
        purl?: string;
        components?: { name: string; hashes: { content: string }[] }[];
      }[];
    };

    const glibc = bill.components.find(({ name }) => name === 'libc6');

    expect(glibc?.purl).toStartWith('pkg:deb/debian/libc6@2.');
    for (const { name, hashes } of glibc!.components!) expect(hashes[0]!.content).toBe(digest(name));
  });
});

function largestBlob(): string {
  const blobs = readdirSync(join(image.layout, 'blobs/sha256')).map((name) =>
    join(image.layout, 'blobs/sha256', name),
  );
  return blobs.reduce((a, b) => (Bun.file(b).size > Bun.file(a).size ? b : a));
}

const engine = kvmOpens ? await DockerEngine.startIfPossible() : undefined;
const testInEngine = testNeeding('/dev/kvm, root and a Docker engine that starts', engine === undefined);

describe('a container of it, with the engine’s default profiles', () => {
  beforeAll(async () => {
    await engine?.run('load', '--input', image.archive);
  });
  afterAll(async () => {
    await engine?.[Symbol.asyncDispose]();
  });

  /** As root where only root may open /dev/kvm, but without capabilities. */
  const ENGINE_FLAGS = [
    ...[
      '--network=none',
      '--device=/dev/kvm',
      '--read-only',
      '--tmpfs=/tmp',
      '--memory=256m',
      '--pids-limit=256',
    ],
    ...['--cap-drop=ALL', '--security-opt=no-new-privileges', '--user=0:0'],
  ];

  function runContainer(engineFlags: readonly string[], ...args: readonly string[]): Promise<Ran> {
    return engine!.run('run', '--rm', ...ENGINE_FLAGS, ...engineFlags, image.name, ...args);
  }

  testInEngine(
    'runs a guest without a capability, on a read-only root, and ends with its exit code',
    async () => {
      const ran = await runContainer([], '--cpus', '2', '--memory', '128M');

      expect(ran.stdout).toContain('PASS');
      expect(ran.stderr).toBe('');
      expect(ran.exitCode).toBe(0);
    },
  );

  testInEngine('warns in one line of a memory limit that the guest does not fit in', async () => {
    const ran = await runContainer(['--memory=160m'], '--cpus', '1', '--memory', '128M');

    expect(ran.stderr).toBe(
      'volt: the guest has 128 MiB of RAM, but the memory limit of this container or service is 160 MiB, so the host kills Volt when the guest uses its RAM; use --memory 96M, or raise the limit to 192 MiB\n',
    );
    expect(ran.exitCode).toBe(0);
  });

  testInEngine('ends with exit code 2 and one line for a wrong flag', async () => {
    const ran = await runContainer([], '--memory', 'abc');

    expect(ran.stderr.trim().split('\n')).toHaveLength(1);
    expect(ran.exitCode).toBe(2);
  });

  /** Starts a guest that powers itself off when it is asked to, under this name, and waits until it runs. */
  async function startObedient(name: string): Promise<void> {
    await Bun.write(folder.at('obedient/kernel'), buildPvhElf(obedientGuest()));
    const mount = `--volume=${folder.at('obedient')}:/guest:ro`;
    const guest = ['--kernel', '/guest/kernel', '--cpus', '1', '--memory', '64M', '--control'];
    await engine!.run('run', ...ENGINE_FLAGS, mount, '--detach', `--name=${name}`, image.name, ...guest);
    await engine!.waitForLog(name, 'ready');
  }

  testInEngine('answers volt health and volt ps, and powers the guest off when it is stopped', async () => {
    await startObedient('stopped');

    const health = await engine!.run('exec', 'stopped', '/usr/bin/volt', 'health');
    const ps = await engine!.run('exec', 'stopped', '/usr/bin/volt', 'ps');
    await engine!.run('stop', '--time=60', 'stopped');

    const logs = await engine!.run('logs', 'stopped');
    const state = await engine!.run('inspect', '--format={{.State.ExitCode}}', 'stopped');
    await engine!.run('rm', 'stopped');
    expect(health.stdout).toStartWith('OK: guest 1 running');
    expect(health.exitCode).toBe(0);
    expect(ps.stdout).toContain('/guest/kernel');
    expect(logs).toMatchObject({ stdout: 'ready\nbye\n', stderr: '' });
    expect(state.stdout).toBe('0\n');
  });

  testInEngine('serves a disk where the profile refuses io_uring and Landlock', async () => {
    await startObedient('profiled');
    const profile = await engine!.seccompProfile('profiled');
    await engine!.run('rm', '--force', 'profiled');
    const refuses = /^(?:io_uring|landlock)_/;
    const stricter = {
      ...profile,
      syscalls: profile.syscalls.map((rule) => ({
        ...rule,
        names: rule.names.filter((name) => !refuses.test(name)),
      })),
    };
    await Bun.write(folder.at('stricter.json'), JSON.stringify(stricter));
    await Bun.write(folder.at('disk/image'), new Uint8Array(64 * 1024));
    await Bun.write(folder.at('disk/kernel'), buildPvhElf(countingGuest(1)));

    const ran = await runContainer(
      [`--volume=${folder.at('disk')}:/guest`, `--security-opt=seccomp=${folder.at('stricter.json')}`],
      ...['--kernel', '/guest/kernel', '--cpus', '1', '--memory', '64M', '--disk', '/guest/image'],
      ...['--log-level', 'info'],
    );

    expect(profile.syscalls.flatMap(({ names }) => names).filter((name) => refuses.test(name))).not.toEqual(
      [],
    );
    expect(ran.stderr).toContain('the sandbox is incomplete: this host has no Landlock');
    expect(ran.exitCode).toBe(0);
    expect(readFileSync(folder.at('disk/image'))[0]).toBe(1);
  });
});
