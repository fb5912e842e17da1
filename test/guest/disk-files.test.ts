/** What volt says of disks that it cannot use, and what becomes of the files of those it can. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

setDefaultTimeout(60_000);

const SECTOR = 512;

/** A folder with a kernel that ends at once, and a disk of 8 sectors. */
async function prepare(folder: TemporaryFolder) {
  const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('up'), asm.exit(0))));
  const disk = await folder.write('disk', new Uint8Array(8 * SECTOR));
  const boot = async (...flags: string[]) => {
    const { stdout, stderr, exitCode } = await runVolt([
      '--kernel',
      kernel,
      '--memory',
      '32M',
      '--cpus',
      '1',
      ...flags,
    ]);
    return { stdout, stderr: stderr.replaceAll(folder.path, '{dir}'), exitCode };
  };
  return { kernel, disk, boot };
}

describe.skipIf(!kvmOpens)('disks (needs /dev/kvm)', () => {
  test.each([
    ['{dir}/nothing', 'there is no such file (expected a file that you may write, or readonly)'],
    ['path={dir}/nothing,readonly', 'there is no such file (expected a file that you may read)'],
    ['{dir}', 'it is a directory (expected a file that you may write, or readonly)'],
    ['{dir}/odd', 'it has 700 bytes (expected whole sectors of 512 bytes, at least one)'],
    ['{dir}/empty', 'it has 0 bytes (expected whole sectors of 512 bytes, at least one)'],
    [
      'path=/dev/null,readonly',
      'it is neither a file nor a block device (expected a disk image or a block device)',
    ],
    ['path={dir}/disk,readonly,overlay={dir}/o', 'readonly and overlay are both given; omit one of them'],
    ['path={dir}/disk,direct,overlay={dir}/o', 'direct and overlay are both given; omit one of them'],
  ])('are refused in one line: %s', async (disk, message) => {
    using folder = new TemporaryFolder();
    const { boot } = await prepare(folder);
    await folder.write('odd', new Uint8Array(700));
    await folder.write('empty', new Uint8Array());

    const { stdout, stderr, exitCode } = await boot('--disk', disk.replaceAll('{dir}', folder.path));

    expect(stderr).toContain(message);
    expect(stderr.split('\n').length).toBe(2);
    expect(stdout).toBe('');
    expect(exitCode).toBe(2);
  });

  test.each([
    ['qcow2', 0, [0x51, 0x46, 0x49, 0xfb], 'add format=qcow2'],
    ['VDI', 0x40, [0x7f, 0x10, 0xda, 0xbe], 'add format=vdi'],
    ['Volt overlay', 0, [...Buffer.from('VOLTOVL\n')], 'give it as overlay=FILE of its base'],
    ['gzip', 0, [0x1f, 0x8b, 8, 0], 'unpack it: gunzip'],
  ])('a %s file is no raw image, unless format=raw says so', async (name, offset, magic, advice) => {
    using folder = new TemporaryFolder();
    const { boot } = await prepare(folder);
    const content = new Uint8Array(8 * SECTOR);
    content.set(magic, offset);
    const image = await folder.write('image', content);
    const problem = `it is a ${name} file, not a raw image; ${advice}, or add format=raw to give the guest the file as it is`;

    const plain = await boot('--disk', image);
    const direct = await boot('--disk', `path=${image},readonly,cache=writethrough`);
    const behindOverlay = await boot('--disk', `path=${image},overlay=${join(folder.path, 'o')}`);
    const raw = await boot('--disk', `path=${image},format=raw`);

    expect(plain).toEqual({
      stdout: '',
      stderr: `volt: Cannot use --disk {dir}/image: ${problem}\n`,
      exitCode: 2,
    });
    expect([direct.exitCode, behindOverlay.exitCode]).toEqual([2, 2]);
    expect(raw).toMatchObject({ stdout: 'up', exitCode: 0 });
  });

  test('that another machine writes are refused; read-only ones are shared', async () => {
    using folder = new TemporaryFolder();
    const { kernel, disk, boot } = await prepare(folder);
    const config = (readOnly: boolean) =>
      parseConfig({
        'boot-source': { kernel_image_path: kernel },
        'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
        drives: [{ drive_id: 'a', path_on_host: disk, is_read_only: readOnly }],
      }).config;
    const whileHeld = async (readOnly: boolean, flags: string) => {
      using _machine = new VirtualMachine(config(readOnly));
      return await boot('--disk', `path=${disk}${flags}`);
    };

    const twoWriters = await whileHeld(false, '');
    const readerBesideWriter = await whileHeld(false, ',readonly');
    const writerBesideReader = await whileHeld(true, '');
    const twoReaders = await whileHeld(true, ',readonly');
    const overlays = await whileHeld(true, `,overlay=${join(folder.path, 'o')}`);

    expect(twoWriters.stderr).toBe(
      `volt: Cannot use --disk {dir}/disk: another machine uses it; use a disk that no other machine uses, add overlay=FILE, or give it to all with readonly\n`,
    );
    expect(readerBesideWriter.stderr).toContain('another machine writes to it');
    expect(writerBesideReader.stderr).toContain('another machine uses it');
    expect([twoReaders.stdout, overlays.stdout]).toEqual(['up', 'up']);
  });
});

describe.skipIf(!kvmOpens)('overlays (needs /dev/kvm)', () => {
  test('are made where there is no file, and used again', async () => {
    using folder = new TemporaryFolder();
    const { disk, boot } = await prepare(folder);
    const flags = ['--disk', `path=${disk},overlay=${join(folder.path, 'o')}`];

    const first = await boot(...flags);
    const again = await boot(...flags);

    expect([first.exitCode, again.exitCode]).toEqual([0, 0]);
    expect(statSync(join(folder.path, 'o')).size).toBe(65536 + 4096);
  });

  test('of a base that was changed, and files that are none, are refused', async () => {
    using folder = new TemporaryFolder();
    const { disk, boot } = await prepare(folder);
    const overlay = join(folder.path, 'o');
    await boot('--disk', `path=${disk},overlay=${overlay}`);
    await folder.write('text', Buffer.from('no overlay'));
    mkdirSync(join(folder.path, 'folder'));

    const none = await boot('--disk', `path=${disk},overlay=${folder.path}/text`);
    const directory = await boot('--disk', `path=${disk},overlay=${folder.path}/folder`);
    utimesSync(disk, 1, 1);
    const changed = await boot('--disk', `path=${disk},overlay=${overlay}`);

    expect(none.stderr).toContain('Cannot use overlay={dir}/text: it is not a Volt overlay of this version');
    expect(directory.stderr).toContain('it is a directory');
    expect(changed.stderr).toContain(
      'Cannot use overlay={dir}/o: its base image has changed since the overlay was created',
    );
    expect([none.exitCode, directory.exitCode, changed.exitCode]).toEqual([2, 2, 2]);
  });
});
