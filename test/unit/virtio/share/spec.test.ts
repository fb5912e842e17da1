import { describe, expect, test } from 'bun:test';
import { SHARE } from '../../../../src/virtio/share/spec.ts';
import { parseConfig } from '../../../../src/config/config.ts';
import { voltErrorOf } from '../../support/errors.ts';

const kernel = { 'boot-source': { kernel_image_path: 'vmlinux' } };
const parse = (...shares: readonly object[]) => parseConfig({ ...kernel, shares });
const share = (more: object) => ({ id: 'share0', tag: 'files', path_on_host: '/srv', ...more });

describe('shares in a configuration', () => {
  test('are a folder with what may be said of it', () => {
    const { config, unknownKeys } = parse(share({ is_read_only: true, cache: 'always', size: 5 }));

    expect(config.devices).toEqual([
      {
        kind: 'share',
        id: 'share0',
        tag: 'files',
        source: { path: '/srv', readOnly: true, cache: 'always' },
      },
    ]);
    expect(unknownKeys).toEqual(['shares[0].size']);
  });

  test('are written by the guest, and cached for as long as virtiofsd thinks right, unless told otherwise', () => {
    const { config } = parse(share({}));

    expect(config.devices[0]).toMatchObject({ source: { readOnly: false, cache: 'auto' } });
  });

  test('are the socket of somebody else’s daemon', () => {
    const { config } = parse({ id: 'a', tag: 'files', socket: 'fs.sock' });

    expect(config.devices[0]).toMatchObject({ source: { socket: 'fs.sock' } });
  });

  test.each<[string, object[], string]>([
    ['no folder', [share({ path_on_host: undefined })], 'Cannot use shares.0: it names no folder or two'],
    ['two folders', [share({ socket: 's' })], 'Cannot use shares.0: it names no folder or two'],
    ['no tag', [share({ tag: undefined })], 'Cannot use shares.0.tag'],
    ['a tag of 37 bytes', [share({ tag: 'ü'.repeat(18) + 'x' })], 'expected at most 36 bytes'],
    ['a cache nobody knows', [share({ cache: 'never' })], 'expected auto, always, none'],
    [
      'a read-only socket',
      [{ id: 'a', tag: 'a', socket: 's', is_read_only: true }],
      'do not apply to a socket',
    ],
    ['a tag twice', [share({}), share({ id: 'b' })], 'two shares have the tag files'],
    ['an id twice', [share({}), share({ tag: 'b' })], 'two share devices have the id share0'],
  ])('are refused: %s', (_what, shares, message) => {
    expect(voltErrorOf(() => parse(...shares)).message).toContain(message);
  });

  test('are announced on the command line to a guest without ACPI', () => {
    const { config } = parseConfig({ ...kernel, shares: [share({})], volt: { acpi: false } });

    expect(config.cmdline).toEndWith(' virtio_mmio.device=4K@0xd0000000:5');
  });
});

describe('--share', () => {
  test('takes a folder with all its words', () => {
    expect(SHARE.flag.parse('path=/srv,tag=files,readonly,cache=none,id=a', 0)).toEqual({
      id: 'a',
      tag: 'files',
      path_on_host: '/srv',
      is_read_only: true,
      cache: 'none',
    });
  });

  test('numbers shares without an id', () => {
    expect([SHARE.flag.parse('path=a', 0), SHARE.flag.parse('socket=s', 1)]).toEqual([
      { id: 'share0', tag: 'share0', path_on_host: 'a' },
      { id: 'share1', tag: 'share1', socket: 's' },
    ]);
  });

  test.each([
    ['tag=a', 'it names no folder (expected either path=DIR or socket=PATH)'],
    ['path=a,socket=b', 'it names two folders (expected either path=DIR or socket=PATH)'],
    ['path', 'path has no value (expected path=DIR)'],
    ['path=a,ro', 'unknown key ro (expected path, socket, tag, readonly, cache, id)'],
    ['path=a,readonly=1', 'readonly takes no value (expected readonly alone)'],
  ])('refuses %s', (text, problem) => {
    expect(voltErrorOf(() => SHARE.flag.parse(text, 0)).message).toBe(
      `Cannot use --share ${text}: ${problem}`,
    );
  });
});
