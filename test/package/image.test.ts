/** The container image that `npm run image` makes, and Volt in a container of it under an engine's default profiles. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../../scripts/image.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { canRunEngine, DockerEngine, type Ran } from '../support/docker-engine.ts';
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

const testInEngine = testNeeding('/dev/kvm, root and Docker', !kvmOpens || !canRunEngine);

describe('a container of it, with the engine’s default profiles', () => {
  let engine: DockerEngine | undefined;

  beforeAll(async () => {
    if (!kvmOpens || !canRunEngine) return;
    engine = await DockerEngine.start();
    await engine.run('load', '--input', image.archive);
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
});
