import { expect, test } from 'bun:test';
import { withAbsolutePaths } from '../../../src/config/absolute-paths.ts';
import { addBootWord, parseConfig, type ConfigInput } from '../../../src/config/config.ts';

/** A path for every key that takes one. */
const INPUT: ConfigInput = {
  'boot-source': { kernel_image_path: 'vmlinux', initrd_path: '../initrd', boot_args: 'file=word' },
  volt: { console: 'file=log', symbols: './System.map', numa: [] },
  drives: [
    { drive_id: 'a', path_on_host: 'disk', overlay: 'over/lay' },
    { drive_id: 'b', path_on_host: '/dev/vda' },
  ],
  pmem: [{ id: 'p', path_on_host: 'pmem' }],
  shares: [{ id: 's', tag: 's', socket: 'fs.sock' }],
  vsock: { guest_cid: 3, uds_path: 'v.sock' },
  'console-ports': [{ name: 'c', socket: 'c.sock' }, { file: 'c.log' }],
};

test('every path is absolute, and nothing else has changed', () => {
  expect(withAbsolutePaths(INPUT, '/a/b')).toEqual({
    'boot-source': { kernel_image_path: '/a/b/vmlinux', initrd_path: '/a/initrd', boot_args: 'file=word' },
    volt: { console: 'file=/a/b/log', symbols: '/a/b/System.map', numa: [] },
    drives: [
      { drive_id: 'a', path_on_host: '/a/b/disk', overlay: '/a/b/over/lay' },
      { drive_id: 'b', path_on_host: '/dev/vda' },
    ],
    pmem: [{ id: 'p', path_on_host: '/a/b/pmem' }],
    shares: [{ id: 's', tag: 's', socket: '/a/b/fs.sock' }],
    vsock: { guest_cid: 3, uds_path: '/a/b/v.sock' },
    'console-ports': [{ name: 'c', socket: '/a/b/c.sock' }, { file: '/a/b/c.log' }],
  });
});

test('a configuration keeps what it was parsed from, and so does one with another boot word', () => {
  const input = { 'machine-config': { vcpu_count: 3 }, 'boot-source': { boot_args: 'quick' } };
  const { config } = parseConfig(input);

  const changed = addBootWord(config, 'json');

  expect(config.input).toBe(input);
  expect(changed.cmdline).toBe('quick json');
  expect(parseConfig(changed.input).config).toEqual(changed);
});
