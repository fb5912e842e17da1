import { describe, expect, test } from 'bun:test';
import {
  negotiate,
  startRings,
  stopRings,
  type VhostAgreement,
} from '../../../../src/virtio/vhost-user/session.ts';
import { createScriptedLink, GOOD_ANSWERS, reply, words } from './scripted-link.ts';

const names = (link: ReturnType<typeof createScriptedLink>) => link.heard.map(({ name }) => name);

describe('an agreement', () => {
  test('keeps the bit for protocol features out of the features', () => {
    const link = createScriptedLink(GOOD_ANSWERS);

    expect(negotiate(link)).toEqual({
      features: [0x3000_0000, 1],
      protocolFeatures: true,
      acknowledges: true,
      queues: 2,
      hasConfig: false,
      logs: false,
      tracksInflight: false,
    });
  });

  test('takes of the protocol features only those that are known here', () => {
    const link = createScriptedLink(GOOD_ANSWERS);

    negotiate(link);

    expect(link.heard.find(({ name }) => name === 'setProtocolFeatures')?.words).toEqual([0b1001, 0]);
  });

  test('with a side that has no protocol features asks nothing more', () => {
    const link = createScriptedLink({ getFeatures: reply('getFeatures', 0x1000_0000, 1) });

    const agreement = negotiate(link);

    expect(names(link)).toEqual(['getFeatures', 'setOwner']);
    expect(agreement).toEqual({
      features: [0x1000_0000, 1],
      protocolFeatures: false,
      acknowledges: false,
      queues: undefined,
      hasConfig: false,
      logs: false,
      tracksInflight: false,
    });
  });
});

const setup = { size: 64, descriptors: 0x1000, driver: 0x2000, device: 0x3000 };
const rings = [
  { index: 0, setup, kickFd: 10, callFd: 9 },
  { index: 1, setup, kickFd: 11, callFd: 9 },
];
const regions = [{ address: 0, bytes: 0x10_0000, fileOffset: 0, fd: 7 }];
const agreement: VhostAgreement = {
  features: [0x3000_0000, 1],
  protocolFeatures: true,
  acknowledges: true,
  queues: 2,
  hasConfig: false,
  logs: false,
  tracksInflight: false,
};

describe('starting rings', () => {
  test('hands over RAM and notifications by descriptors, and enables what was set up', () => {
    const link = createScriptedLink({});

    startRings(link, agreement, [0x1000_0000, 1], regions, rings);

    expect(link.heard.filter(({ fds }) => fds.length > 0).map(({ name, fds }) => [name, fds])).toEqual([
      ['setMemTable', [7]],
      ['setVringCall', [9]],
      ['setVringKick', [10]],
      ['setVringCall', [9]],
      ['setVringKick', [11]],
    ]);
    expect(link.heard.slice(-2)).toEqual([
      { name: 'setVringEnable', words: [0, 1], fds: [] },
      { name: 'setVringEnable', words: [1, 1], fds: [] },
    ]);
  });

  test('says that protocol features are agreed on, as a bit of the features', () => {
    const link = createScriptedLink({});

    startRings(link, agreement, [0x1000_0000, 1], regions, rings);

    expect(link.heard[0]).toEqual({ name: 'setFeatures', words: [0x5000_0000, 1], fds: [] });
  });

  test('enables nothing for a side that has no messages for it', () => {
    const link = createScriptedLink({});

    startRings(link, { ...agreement, protocolFeatures: false, acknowledges: false }, [0, 1], regions, rings);

    expect(names(link)).not.toContain('setVringEnable');
    expect(link.heard[0]!.words).toEqual([0, 1]);
  });

  test('ends where the other side refuses something', () => {
    const link = createScriptedLink({ setMemTable: reply('setMemTable', 1, 0) });

    expect(() => startRings(link, agreement, [0, 1], regions, rings)).toThrow(
      'refused the message setMemTable',
    );
    expect(names(link)).toEqual(['setFeatures', 'setMemTable']);
  });
});

test('stopping rings asks for each, and waits for the answer', () => {
  const link = createScriptedLink({});

  stopRings(link, [0, 1]);

  expect(link.heard.map(({ name, words }) => [name, words[0]])).toEqual([
    ['getVringBase', 0],
    ['getVringBase', 1],
  ]);
});

describe('a hostile side is found out when it', () => {
  test.each([
    ['hangs up', undefined, 'hung up'],
    ['answers something else', reply('getQueueNum', 0, 0), 'answered 1 with a message 17'],
    ['asks instead of answering', words(1, 0x1, 8, 0, 0), 'answered 1 with flags 0x1'],
    ['announces 4 GiB', words(1, 0x5, 0xffff_ffff), 'answered 1 with 4294967295 bytes instead of 8'],
    ['announces nothing', words(1, 0x5, 0), 'answered 1 with 0 bytes instead of 8'],
    ['stops in the middle of its header', words(1, 0x5), 'hung up'],
    ['stops in the middle of its answer', words(1, 0x5, 8, 0x7000_0000), 'hung up'],
    ['sends zeroes', new Uint8Array(1000), 'answered 1 with a message 0'],
  ])('%s', (_what, answer, message) => {
    const link = createScriptedLink({ ...GOOD_ANSWERS, getFeatures: answer });

    expect(() => negotiate(link)).toThrow(message);
  });

  test('has stopped another ring', () => {
    const link = createScriptedLink({ getVringBase: reply('getVringBase', 0x8000_0000, 0) });

    expect(() => stopRings(link, [0])).toThrow('stopped queue 2147483648 instead of 0');
  });

  test('speaks too much, which the next answer is taken for', () => {
    const twice = Buffer.concat([GOOD_ANSWERS['getFeatures']!, GOOD_ANSWERS['getFeatures']!]);
    const link = createScriptedLink({ ...GOOD_ANSWERS, getFeatures: twice });

    expect(() => negotiate(link)).toThrow('answered 15 with a message 1');
  });
});
