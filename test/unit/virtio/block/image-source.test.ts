/** Which disks qemu-storage-daemon serves, and its command line. */
import { describe, expect, test } from 'bun:test';
import {
  backEndFormat,
  daemonArguments,
  parseNbdUri,
  shortenMessage,
  type ImageSource,
} from '../../../../src/virtio/block/back-end/image-source.ts';

describe('the format of a disk', () => {
  test.each([
    ['a.qcow2', undefined, 'Qcow2'],
    ['A.VMDK', undefined, 'Vmdk'],
    ['a.qcow2', 'Raw', undefined],
    ['a.img', undefined, undefined],
    ['a.img', 'Luks', 'Luks'],
    ['qcow2', undefined, undefined],
    ['nbd://host/a.qcow2', undefined, 'Raw'],
    ['nbd://host/x', 'Qcow2', 'Qcow2'],
  ] as const)('of %s with format %p is %p', (path, format, expected) => {
    expect(backEndFormat(path, format)).toBe(expected);
  });
});

describe('an NBD URI', () => {
  test.each([
    ['nbd://host', { server: { type: 'inet', host: 'host', port: '10809' }, exportName: undefined }],
    ['nbd://[::1]:80/a%20b', { server: { type: 'inet', host: '::1', port: '80' }, exportName: 'a b' }],
    ['nbd+unix:///x?socket=/run/a', { server: { type: 'unix', path: '/run/a' }, exportName: 'x' }],
  ] as const)('%s names a server', (uri, expected) => {
    expect(parseNbdUri(uri)).toEqual(expected);
  });

  test.each([
    ['nbd+unix:///x', 'it names no socket (socket=PATH)'],
    ['nbd:///x', 'it names no host'],
    ['nbd://host:99999/x', 'it is not an NBD URI'],
    ['nbd://host/%ff', 'it is not an NBD URI'],
  ])('%s is refused', (uri, problem) => {
    expect(parseNbdUri(uri)).toBe(problem);
  });
});

const SOURCE: ImageSource = {
  format: 'Qcow2',
  at: { path: '/a,b.qcow2', isBlockDevice: false },
  secret: undefined,
  readOnly: false,
  direct: false,
  unsafe: false,
  writeThrough: false,
  engine: undefined,
  queues: 2,
  limits: { bandwidth: undefined, ops: undefined },
  monitor: undefined,
  listenerFd: 3,
};

describe('the command line of the daemon', () => {
  test('has the image and its export', () => {
    const [first, blockdev, second, exported, ...rest] = daemonArguments(SOURCE);

    expect([first, second, rest]).toEqual(['--blockdev', '--export', []]);
    expect(JSON.parse(blockdev!)).toMatchObject({
      driver: 'qcow2',
      'node-name': 'disk',
      'read-only': false,
      file: { driver: 'file', filename: '/a,b.qcow2', aio: 'threads' },
    });
    expect(JSON.parse(exported!)).toMatchObject({
      type: 'vhost-user-blk',
      writable: true,
      'num-queues': 2,
      addr: { type: 'fd', str: '3' },
    });
  });

  test('has a key, limits and a monitor where they are wanted', () => {
    const words = daemonArguments({
      ...SOURCE,
      secret: '/key',
      limits: { bandwidth: { size: 1000, burst: 0, refillMs: 100 }, ops: undefined },
      monitor: '/run/a,b',
    });

    expect(words[words.indexOf('--chardev') + 1]).toBe('socket,id=monitor,path=/run/a,,b,server=on,wait=off');
    const values = words.filter((word) => word.startsWith('{')).map((word) => JSON.parse(word) as unknown);
    expect(values).toContainEqual({ 'qom-type': 'secret', id: 'key', file: '/key' });
    expect(values).toContainEqual({
      'qom-type': 'throttle-group',
      id: 'limits',
      limits: { 'bps-total': 10_000 },
    });
    expect(values[2]).toMatchObject({
      driver: 'throttle',
      'node-name': 'disk',
      file: { driver: 'qcow2', encrypt: { format: 'luks', 'key-secret': 'key' } },
    });
  });
});

test.each([
  [
    'qemu-storage-daemon: --blockdev {"a":{"b":1},"c":2}: Image is not in qcow2 format',
    'Image is not in qcow2 format',
  ],
  ['qemu-storage-daemon: vu_panic: bad', 'vu_panic: bad'],
  ['Is another process using the image?', 'Is another process using the image?'],
])('a message of the daemon loses its name and options: %s', (line, short) => {
  expect(shortenMessage(line)).toBe(short);
});
