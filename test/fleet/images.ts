/** The images of a test cluster: pause, the device plugin, and Volt with a guest. */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { systemFiles, writeRoot } from '../../scripts/image/files.ts';
import { archiveFolder, writeLayout } from '../../scripts/image/layout.ts';
import { releaseContext } from '../../scripts/package/context.ts';
import { VOLT } from '../cli/volt-process.ts';
import { keepingGuest } from '../guest/keeping-guest.ts';
import { buildPvhElf } from '../guest/tiny-guest.ts';

interface TestImage {
  readonly name: string;
  readonly entrypoint: readonly string[];
  readonly fill: (root: string) => void;
}

/** Writes `FOLDER/images/*.tar`. */
export async function writeImages(folder: string): Promise<void> {
  const context = releaseContext(VOLT);
  const add = (root: string, from: string, name: string) => {
    copyFileSync(from, join(root, name));
    chmodSync(join(root, name), 0o755);
  };
  const images: readonly TestImage[] = [
    {
      name: 'pause:1',
      entrypoint: ['/busybox', 'sleep', '1000000'],
      fill: (root) => add(root, Bun.which('busybox')!, 'busybox'),
    },
    {
      name: 'generic-device-plugin:test',
      entrypoint: ['/plugin'],
      fill: (root) => add(root, join(folder, 'bin/generic-device-plugin'), 'plugin'),
    },
  ];
  await write(folder, images, context);
  for (const tag of ['1', '2']) await writeGuestImage(folder, tag);
}

/** Writes `FOLDER/images/volt-guest-TAG.tar`. */
export async function writeGuestImage(folder: string, tag: string): Promise<void> {
  const context = releaseContext(VOLT);
  const fill = (root: string) => {
    writeRoot(root, context, systemFiles(VOLT, false), '{}');
    const files = {
      'guest/boot/kernel': buildPvhElf(keepingGuest()),
      // "0", which the guest's starts count up from.
      'guest/disk/root.img': new Uint8Array(1024 * 1024).fill(0x30, 0, 1),
    };
    for (const [path, bytes] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), bytes);
    }
  };
  await write(folder, [{ name: `volt-guest:${tag}`, entrypoint: ['/usr/bin/volt'], fill }], context);
}

async function write(
  folder: string,
  images: readonly TestImage[],
  context: ReturnType<typeof releaseContext>,
): Promise<void> {
  mkdirSync(join(folder, 'images'), { recursive: true });
  for (const { name, entrypoint, fill } of images) {
    const stage = mkdtempSync(join(tmpdir(), 'volt-fleet-'));
    const [root, layout] = [join(stage, 'root'), join(stage, 'layout')];
    mkdirSync(root);
    mkdirSync(layout);
    fill(root);
    archiveFolder(root, join(stage, 'layer.tar'), context);
    const tar = await Bun.file(join(stage, 'layer.tar')).bytes();
    const runs = { Entrypoint: entrypoint, Env: ['PATH=/usr/bin'], User: '65532:65532' };
    writeLayout(layout, { name, labels: {}, tar, runs }, context);
    archiveFolder(layout, join(folder, 'images', `${name.replace(':', '-')}.tar`), context);
    rmSync(stage, { recursive: true });
  }
}
