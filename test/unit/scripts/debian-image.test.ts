/** What scripts/debian-image.ts writes besides Debian's own files, and what it refuses. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { resolve } from 'node:path';
import { readSources } from '../../../scripts/apt-sources.ts';
import { filesOf, machineConfig, parseSize } from '../../../scripts/debian-image.ts';
import { hashPassword, settingFiles } from '../../../scripts/debian-root.ts';
import { parseConfig } from '../../../src/config/config.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const SCRIPT = resolve(import.meta.dir, '../../../scripts/debian-image.ts');
const SETTINGS = { password: undefined, autologin: false, hostname: 'debian', uuid: 'u-u-i-d' };

describe('the archives that packages come from', () => {
  test("are Debian's own of the suite with its updates, each once", () => {
    const targets = [
      'Debian|http://mirror/debian/|bookworm|main',
      'Debian|http://mirror/debian/|bookworm|main',
      'Debian|http://mirror/debian/|bookworm-updates|main',
      'Debian|http://mirror/security/|bookworm-security|main',
      'Debian|http://mirror/debian/|trixie|main',
      'Debian Backports|http://mirror/debian/|bookworm-backports|main',
      'Somebody|http://else/|bookworm|main',
      '',
    ].join('\n');

    expect(readSources(targets, 'bookworm')).toEqual([
      'deb http://mirror/debian/ bookworm main',
      'deb http://mirror/debian/ bookworm-updates main',
      'deb http://mirror/security/ bookworm-security main',
    ]);
  });

  test('are none where apt has no others', () => {
    expect(readSources('Somebody|http://else/|bookworm|main\n', 'bookworm')).toEqual([]);
  });
});

describe('the files of an image', () => {
  test('stand beside it under its name', () => {
    expect(filesOf('a/debian.img')).toEqual({
      image: 'a/debian.img',
      kernel: 'a/debian.vmlinux',
      initrd: 'a/debian.initrd',
      config: 'a/debian.json',
    });
    expect(filesOf('disk').kernel).toBe('disk.vmlinux');
  });

  test('make a configuration that Volt takes, with the image as root', () => {
    const { config, unknownKeys } = parseConfig(machineConfig(filesOf('debian.img')));

    expect(unknownKeys).toEqual([]);
    expect(config.cmdline).toEndWith('root=/dev/vda rw');
    expect(config.devices).toMatchObject([{ kind: 'block', path: 'debian.img', root: true }]);
  });
});

describe('settings', () => {
  test('name the root by its UUID, and leave the machine id to the first boot', () => {
    const files = settingFiles(SETTINGS);

    expect(files['etc/fstab']).toBe('UUID=u-u-i-d / ext4 errors=remount-ro 0 1\n');
    expect(files['etc/machine-id']).toBe('');
  });

  test('bring plugged CPUs online', () => {
    expect(settingFiles(SETTINGS)['etc/udev/rules.d/80-volt-cpu.rules']).toBe(
      'SUBSYSTEM=="cpu", ACTION=="add", ATTR{online}=="0", ATTR{online}="1"\n',
    );
  });

  test('log root in only when asked to', () => {
    const unit = 'etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf';

    expect(settingFiles(SETTINGS)[unit]).toBeUndefined();
    expect(settingFiles({ ...SETTINGS, autologin: true })[unit]).toContain('--autologin root');
  });

  test("hold a password in a form of Debian's crypt", async () => {
    const hash = await hashPassword('a word');

    expect(hash).toMatch(/^\$2b\$08\$[./\w]{53}$/);
    expect(await Bun.password.verify('a word', hash)).toBe(true);
  });
});

describe('sizes', () => {
  test.each([
    ['1G', 1024 ** 3],
    ['512M', 512 * 1024 ** 2],
    ['64k', 64 * 1024],
    ['4096', 4096],
  ])('%s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  test.each(['', '0', '-1G', '1.5G', '1X', '99999999T'])('"%s" is refused', (text) => {
    expect(() => parseSize(text)).toThrow(/^Cannot use --size .*: not a size \(expected /);
  });
});

describe('the command', () => {
  test.each([
    [[], 'Cannot make an image: 0 names (expected one, as in debian.img)'],
    [['a.img', 'b.img'], 'Cannot make an image: 2 names (expected one, as in debian.img)'],
    [['a.img', '--size', 'big'], 'Cannot use --size big: not a size (expected'],
    [['a.img', '--packages', 'vim,$(x)'], 'Cannot use --packages $(x): not a name (expected'],
    [['a.img', '--suite', '../x'], 'Cannot use --suite ../x: not a name (expected'],
    [['a.img', '--root-password', 'x'.repeat(73)], 'Cannot use --root-password: 73 bytes (expected 1 to 72)'],
    [['a.img', '--colour'], "Unknown option '--colour'"],
  ])('refuses %p in one line', (words, message) => {
    const { exitCode, stderr, stdout } = Bun.spawnSync([process.execPath, SCRIPT, ...words]);

    expect(stderr.toString()).toStartWith(message);
    expect(stderr.toString().trimEnd()).not.toContain('\n');
    expect(stdout.toString()).toBe('');
    expect(exitCode).toBe(2);
  });
});
