import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { openGuestImage } from '../../../src/api/guest-image/unpack.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';
import {
  archiveFiles,
  buildTar,
  layoutFiles,
  sha256,
  writeFiles,
  type TestLayer,
} from '../../support/oci-image.ts';

let folder: TemporaryFolder;
let scratch: string;

beforeEach(() => {
  folder = new TemporaryFolder();
  scratch = folder.at('scratch');
  mkdirSync(scratch);
});
afterEach(() => folder[Symbol.dispose]());

const bytes = (text: string) => new TextEncoder().encode(text);
const KERNEL = { name: 'boot/kernel', data: bytes('a kernel') };

function writeLayout(layers: readonly TestLayer[]): string {
  writeFiles(folder.at('image'), layoutFiles(layers));
  return folder.at('image');
}

async function problemOf(path: string): Promise<string> {
  const error: unknown = await openGuestImage(path, scratch).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(VoltError);
  return (error as VoltError).message;
}

describe('an image', () => {
  test.each(['tar', 'tar+gzip', 'tar+zstd'] as const)(
    'with a layer as %s has its files unpacked',
    async (compression) => {
      const tar = buildTar([
        { name: 'boot/', type: '5' },
        KERNEL,
        { name: './boot/initrd', data: bytes('an initrd') },
        { name: '/boot/cmdline', data: bytes('console=ttyS0\n quiet\n') },
        { name: 'disk/root.img', data: new Uint8Array(300_000).fill(7, 290_000) },
      ]);

      const image = await openGuestImage(writeLayout([{ tar, compression }]), scratch);

      expect(readFileSync(image.kernel, 'utf8')).toBe('a kernel');
      expect(readFileSync(image.initrd!, 'utf8')).toBe('an initrd');
      expect(image.cmdline).toBe('console=ttyS0 quiet');
      expect(sha256(readFileSync(image.disk!))).toBe(sha256(new Uint8Array(300_000).fill(7, 290_000)));
      // 256 KiB of zeroes are holes.
      expect(statSync(image.disk!).blocks * 512).toBeLessThan(100_000);
    },
  );

  test('is the same as an archive, which is unpacked once', async () => {
    const archive = await folder.write('image.tar', archiveFiles(layoutFiles([{ tar: buildTar([KERNEL]) }])));

    const first = await openGuestImage(archive, scratch);
    const { ino } = statSync(first.kernel);
    const second = await openGuestImage(archive, scratch);

    expect(second.kernel).toBe(first.kernel);
    expect(statSync(second.kernel).ino).toBe(ino);
    expect(readdirSync(scratch)).toHaveLength(1);
  });

  test('may be an unpacked root, such as a volume that an engine mounts', async () => {
    mkdirSync(folder.at('root/boot'), { recursive: true });
    writeFileSync(folder.at('root/boot/kernel'), 'k');

    const image = await openGuestImage(folder.at('root'), scratch);

    expect(image).toMatchObject({
      kernel: folder.at('root/boot/kernel'),
      initrd: undefined,
      disk: undefined,
    });
    expect(readdirSync(scratch)).toEqual([]);
  });

  test('has the files of its upper layers, without those that they remove', async () => {
    const image = await openGuestImage(
      writeLayout([
        {
          tar: buildTar([
            KERNEL,
            { name: 'boot/initrd', data: bytes('i') },
            { name: 'disk/root.img', data: bytes('d') },
          ]),
        },
        {
          tar: buildTar([
            { name: 'boot/kernel', data: bytes('newer') },
            { name: 'boot/.wh..wh..opq' },
            { name: '.wh.disk' },
          ]),
        },
      ]),
      scratch,
    );

    expect(readFileSync(image.kernel, 'utf8')).toBe('newer');
    expect([image.initrd, image.disk]).toEqual([undefined, undefined]);
  });

  test('writes nothing but its files, whatever names its archive has', async () => {
    const tar = buildTar([
      KERNEL,
      { name: '../escaped', data: bytes('x') },
      { name: '/../../escaped', data: bytes('x') },
      { name: 'boot/../../escaped', data: bytes('x') },
      { name: 'boot', type: '2' },
      { name: 'etc/passwd', data: bytes('x') },
    ]);

    await openGuestImage(writeLayout([{ tar }]), scratch);

    const [made] = readdirSync(scratch);
    expect(readdirSync(`${scratch}/${made}`, { recursive: true })).toEqual(['boot', 'boot/kernel']);
    expect(existsSync(folder.at('escaped'))).toBe(false);
    expect(statSync(`${scratch}/${made}`).mode & 0o777).toBe(0o700);
  });
});

describe('an image is refused, and leaves nothing behind,', () => {
  const layers = [{ tar: buildTar([KERNEL]) }];

  test.each([
    [
      'whose kernel is a link',
      [{ tar: buildTar([{ name: 'boot/kernel', type: '2' }]) }],
      'its boot/kernel is a link',
    ],
    ['whose disk is a folder', [{ tar: buildTar([{ name: 'disk/root.img', type: '5' }]) }], 'is a directory'],
    [
      'whose command line is long',
      [{ tar: buildTar([{ name: 'boot/cmdline', data: new Uint8Array(5000) }]) }],
      'has 5000 bytes',
    ],
    ['whose layer is no archive', [{ tar: new Uint8Array(2048).fill(1) }], 'the header at 0 is damaged'],
  ])('%s', async (_, hostile, problem) => {
    expect(await problemOf(writeLayout(hostile))).toContain(problem);
    expect(readdirSync(scratch)).toEqual([]);
  });

  test('that has no kernel', async () => {
    const path = writeLayout([{ tar: buildTar([{ name: 'boot/initrd', data: bytes('i') }]) }]);

    expect(await problemOf(path)).toContain('it has no boot/kernel; see docs/fleet.md');
  });

  test('of which a blob was changed', async () => {
    const files = layoutFiles([{ ...layers[0]!, compression: 'tar' }]);
    const [name, blob] = [...files].find(([, content]) => content.length > 1024)!;
    writeFiles(folder.at('image'), files.set(name, blob.with(514, 0)));

    expect(await problemOf(folder.at('image'))).toMatch(
      /what is called sha256:\w+ has the digest sha256:\w+; fetch it again/,
    );
    expect(readdirSync(scratch)).toEqual([]);
  });

  test('of which a blob was cut', async () => {
    const files = layoutFiles(layers);
    const [name, blob] = [...files][0]!;
    writeFiles(folder.at('image'), files.set(name, blob.slice(0, 20)));

    expect(await problemOf(folder.at('image'))).toContain(`${name} has 20 bytes (expected ${blob.length})`);
  });

  test.each([
    [
      'of which a blob is missing',
      (files: Map<string, Uint8Array>) => files.delete([...files.keys()][0]!),
      'fetch the whole image',
    ],
    [
      'whose index is no JSON',
      (files: Map<string, Uint8Array>) => files.set('index.json', bytes('{')),
      'it is not JSON',
    ],
    [
      'whose index is empty',
      (files: Map<string, Uint8Array>) =>
        files.set('index.json', bytes('{"schemaVersion":2,"manifests":[]}')),
      'its index has 0 images for linux/amd64',
    ],
  ])('%s', async (_, change, problem) => {
    const files = layoutFiles(layers);
    change(files);
    writeFiles(folder.at('image'), files);

    expect(await problemOf(folder.at('image'))).toContain(problem);
    expect(readdirSync(scratch)).toEqual([]);
  });

  test('whose place another user could have made', async () => {
    const path = writeLayout(layers);
    const { kernel } = await openGuestImage(path, scratch);
    const place = kernel.slice(0, kernel.indexOf('/boot/'));
    chmodSync(place, 0o755);

    expect(await problemOf(path)).toContain('it is not a folder that you alone may open');
  });

  test('whose place is a link', async () => {
    const path = writeLayout(layers);
    const { kernel } = await openGuestImage(path, scratch);
    const place = kernel.slice(0, kernel.indexOf('/boot/'));
    const other = folder.at('other');
    mkdirSync(other);
    symlinkSync(place, `${other}/${place.split('/').at(-1)}`);

    const error: unknown = await openGuestImage(path, other).catch((thrown: unknown) => thrown);

    expect((error as VoltError).message).toContain('it is not a folder that you alone may open');
  });
});
