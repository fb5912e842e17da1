import { expect, test } from 'bun:test';
import { deviceFlagOf, deviceFlags, deviceSections } from '../../../src/cli/device-flags.ts';
import { parsePlainly } from '../../../src/cli/flags.ts';

const parse = (...argv: string[]) => parsePlainly([{ title: 'Devices:', flags: deviceFlags() }], argv)!;

test('flags of a list may be given again, and number devices without an id', () => {
  expect(deviceSections(parse('--disk', 'a', '--disk', 'b', '--virtio-console', 'socket=s'))).toEqual({
    drives: [
      { drive_id: 'disk0', path_on_host: 'a' },
      { drive_id: 'disk1', path_on_host: 'b' },
    ],
    'virtio-consoles': [{ name: 'port0', socket: 's' }],
  });
});

test('a flag without a value is an empty section', () => {
  expect(deviceSections(parse('--rng', '--balloon'))).toEqual({ entropy: {}, balloon: {} });
});

test('errors name the flag of a section that was given, and no other', () => {
  const flags = parse('--net', 'user');

  expect(deviceFlagOf('network-interfaces', flags)).toBe('--net');
  expect(deviceFlagOf('drives', flags)).toBeUndefined();
  expect(deviceFlagOf('volt', flags)).toBeUndefined();
});
