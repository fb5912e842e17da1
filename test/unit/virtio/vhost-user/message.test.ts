/** Bytes of messages, against the layouts in QEMU's docs/interop/vhost-user.rst. */
import { describe, expect, test } from 'bun:test';
import {
  encodeMemTable,
  encodeMessage,
  encodeU64,
  encodeVringAddress,
  encodeVringState,
  NO_PAYLOAD,
  replyProblem,
} from '../../../../src/virtio/vhost-user/message.ts';
import { MAX_VHOST_REGIONS } from '../../../../src/virtio/vhost-user/regs.ts';

const hex = (bytes: Uint8Array) =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/.{8}(?=.)/g, '$& ');
const header = (request: number, flags: number, bytes: number) =>
  new Uint8Array(Uint32Array.of(request, flags, bytes).buffer);

describe('a message', () => {
  test('without payload is a header with version 1', () => {
    expect(hex(encodeMessage('getFeatures', NO_PAYLOAD, false))).toBe('01000000 01000000 00000000');
  });

  test('that is to be acknowledged says so', () => {
    expect(hex(encodeMessage('setOwner', NO_PAYLOAD, true))).toBe('03000000 09000000 00000000');
  });

  test('with a u64 has its low half first', () => {
    const message = encodeMessage('setFeatures', encodeU64([0x4000_0001, 1]), false);

    expect(hex(message)).toBe('02000000 01000000 08000000 01000040 01000000');
  });

  test('about the state of a ring has its index and a number', () => {
    const message = encodeMessage('setVringNum', encodeVringState(1, 256), false);

    expect(hex(message)).toBe('08000000 01000000 08000000 01000000 00010000');
  });

  test('about the place of a ring has the used before the available part', () => {
    const setup = { size: 8, descriptors: 0x1000, driver: 0x2002, device: 0x1_0000_3004 };

    expect(hex(encodeVringAddress(1, setup))).toBe(
      [
        '01000000 00000000',
        '00100000 00100000',
        '04300000 01100000',
        '02200000 00100000',
        '00000000 00000000',
      ].join(' '),
    );
  });

  test('with the table of RAM names each region as the rings do', () => {
    const regions = [
      { address: 0, bytes: 0x2000_0000, fileOffset: 0 },
      { address: 0x1_0000_0000, bytes: 0x1000, fileOffset: 0x20_0000 },
    ];

    expect(hex(encodeMemTable(regions))).toBe(
      [
        '02000000 00000000',
        '00000000 00000000 00000020 00000000 00000000 00100000 00000000 00000000',
        '00000000 01000000 00100000 00000000 00000000 01100000 00002000 00000000',
      ].join(' '),
    );
  });

  test('with more regions than the protocol takes is not made', () => {
    const region = { address: 0, bytes: 0x1000, fileOffset: 0 };
    const regions = Array.from({ length: MAX_VHOST_REGIONS + 1 }, () => region);

    expect(() => encodeMemTable(regions)).toThrow('9 regions (expected at most 8)');
  });
});

describe('the header of an answer', () => {
  test('is fine with the same request, version 1, the reply bit and the right length', () => {
    expect(replyProblem('getFeatures', header(1, 0x5, 8), 8)).toBeUndefined();
  });

  test.each([
    ['another request', header(2, 0x5, 8), 'answered 1 with a message 2'],
    ['no reply bit', header(1, 0x1, 8), 'answered 1 with flags 0x1'],
    ['another version', header(1, 0x6, 8), 'answered 1 with flags 0x6'],
    ['less than there should be', header(1, 0x5, 4), 'answered 1 with 4 bytes instead of 8'],
    ['4 GiB', header(1, 0x5, 0xffff_ffff), 'answered 1 with 4294967295 bytes instead of 8'],
  ])('is refused with %s', (_what, bytes, problem) => {
    expect(replyProblem('getFeatures', bytes, 8)).toBe(problem);
  });
});
