/** Packets of gdb's remote protocol, those of a hostile client included. */
import { describe, expect, test } from 'bun:test';
import {
  createPacketReader,
  encodePacket,
  fromHex,
  MAX_PACKET_BYTES,
  readPackets,
  toHex,
} from '../../../src/gdb/packets.ts';

function read(...chunks: readonly (string | Uint8Array)[]) {
  const reader = createPacketReader();
  return chunks
    .flatMap((chunk) => readPackets(reader, typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk))
    .map((input) => (input.kind === 'packet' ? Buffer.from(input.payload).toString('latin1') : input));
}

describe('reading packets', () => {
  test('finds payloads, acknowledgements and Ctrl-C in one chunk', () => {
    expect(read('+$g#67\x03-$m0,4#fd')).toEqual([
      { kind: 'ack' },
      'g',
      { kind: 'interrupt' },
      { kind: 'resend' },
      'm0,4',
    ]);
  });

  test('puts a packet together that comes byte by byte', () => {
    expect(read('$', 'q', 'C', '#', 'b', '4')).toEqual(['qC']);
  });

  test('resolves escapes, whose raw bytes count for the checksum', () => {
    const packet = encodePacket('X0,4:#$}*');

    expect(Buffer.from(packet).toString('latin1')).toStartWith('$X0,4:}\x03}\x04}]}\n#');
    expect(read(packet)).toEqual(['X0,4:#$}*']);
  });

  test('takes 0x03 inside a packet for data', () => {
    expect(read(encodePacket('a\x03b'))).toEqual(['a\x03b']);
  });

  test.each(['$g#68', '$g#6g', '$g#', '$g#zz', '$#01'])('does not take %j for a packet', (text) => {
    const found = read(text, '$?#3f');

    expect(found.at(-1)).toBe('?');
    expect(found.filter((input) => typeof input === 'string')).toEqual(['?']);
  });

  test('begins anew at a start without an end', () => {
    expect(read('$never ends$?#3f')).toEqual(['?']);
  });

  test('refuses a packet above the limit without keeping it, and goes on', () => {
    const long = encodePacket('a'.repeat(MAX_PACKET_BYTES + 1));
    const longest = 'b'.repeat(MAX_PACKET_BYTES);

    expect(read(long, encodePacket(longest))).toEqual([{ kind: 'damaged' }, longest]);
  });
});

test('hexadecimal digits stand for bytes, in pairs only', () => {
  expect(toHex(Uint8Array.of(0, 0xab, 0x0f))).toBe('00ab0f');
  expect(fromHex('00AB0f')).toEqual(Uint8Array.of(0, 0xab, 0x0f));
  expect(fromHex('')).toEqual(new Uint8Array());
  expect([fromHex('0'), fromHex('0x'), fromHex('g0'), fromHex(' 0')]).toEqual(Array(4).fill(undefined));
});
