import { describe, expect, test } from 'bun:test';
import { addressOf } from '../../../../../src/ffi/libc.ts';
import {
  buildTcp,
  parseFrame,
  TCP_FLAG,
  type TcpSegment,
} from '../../../../../src/virtio/net/mmds/frames.ts';
import { answerMmds, type MmdsSettings } from '../../../../../src/virtio/net/mmds/http.ts';
import { MmdsPort } from '../../../../../src/virtio/net/mmds/port.ts';
import { createMmdsBuffer, MmdsReader, writeMmds } from '../../../../../src/virtio/net/mmds/store.ts';
import { Tokens } from '../../../../../src/virtio/net/mmds/tokens.ts';
import { PORT_RESULT, type NetPort } from '../../../../../src/virtio/net/port.ts';
import { IoVector } from '../../../../../src/virtio/transport/io-vector.ts';

const V1: MmdsSettings = { version: 'V1', imdsCompat: false };
const VALUE = new Map<string, string | Map<string, string>>([
  ['b', new Map([['c', 'd']])],
  ['a', 'text'],
]);
const effects = {
  value: () => VALUE,
  createToken: () => 'TOKEN',
  isValidToken: (text: string) => text === 'TOKEN',
};

function ask(request: string, settings = V1): string {
  const { response } = answerMmds(Buffer.from(`${request}\r\n\r\n`), settings, effects)!;
  const [head = '', body = ''] = Buffer.from(response).toString('utf8').split('\r\n\r\n');
  return `${head.split(' ')[1]} ${/Content-Type: (.*)/.exec(head)?.[1]} ${body}`;
}

describe('an answer of the metadata service', () => {
  test.each([
    ['GET / HTTP/1.1', '200 text/plain a\nb/'],
    ['GET /b/ HTTP/1.1', '200 text/plain c'],
    ['GET //b//c HTTP/1.1', '200 text/plain d'],
    ['GET /b HTTP/1.1\r\nAccept: application/json', '200 application/json {"c":"d"}'],
    ['GET http://169.254.169.254/a HTTP/1.0', '200 text/plain text'],
    ['GET /x HTTP/1.1', '404 text/plain Resource not found: /x.'],
    ['PATCH /a HTTP/1.1', '405 text/plain Not allowed HTTP method.'],
    ['POST /a HTTP/1.1', '501 text/plain Unsupported HTTP method.'],
    ['PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60', '200 text/plain TOKEN'],
    [
      'PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 0',
      '400 text/plain Invalid time to live value provided for token: 0. Please provide a value between 1 and 21600.',
    ],
  ])('%p', (request, expected) => {
    expect(ask(request)).toBe(expected);
  });

  test('needs a valid token in version 2', () => {
    const settings: MmdsSettings = { version: 'V2', imdsCompat: false };

    expect(ask('GET /a HTTP/1.1', settings)).toStartWith('401');
    expect(ask('GET /a HTTP/1.1\r\nX-metadata-token: x', settings)).toBe(
      '401 text/plain MMDS token not valid.',
    );
    expect(ask('GET /a HTTP/1.1\r\nX-METADATA-TOKEN: TOKEN', settings)).toBe('200 text/plain text');
  });

  test('has the format of IMDS whatever is accepted, if that is wanted', () => {
    const request = 'GET /b HTTP/1.1\r\nAccept: application/json';

    expect(ask(request, { version: 'V1', imdsCompat: true })).toBe('200 application/json c');
  });
});

test('a token is valid for its time and its microVM alone', () => {
  const clock = { now: 0 };
  const key = new Uint8Array(32).fill(7);
  const tokens = new Tokens('a', key, () => clock.now);
  const token = tokens.create(5);

  const fresh = tokens.isValid(token);
  const forged = tokens.isValid(`${token.slice(0, -5)}AAAA=`);
  clock.now = 5001;

  expect([fresh, forged, tokens.isValid(token), tokens.isValid('')]).toEqual([true, false, false, false]);
  expect(new Tokens('a', new Uint8Array(32), () => 0).isValid(token)).toBe(false);
  expect(new Tokens('b', key, () => 0).isValid(token)).toBe(false);
});

test('the worker sees what the main thread has written last', () => {
  const buffer = createMmdsBuffer(100);
  const reader = new MmdsReader(buffer);

  const empty = reader.value();
  writeMmds(buffer, '{"a":1}');
  const first = reader.value();
  writeMmds(buffer, '"b"');

  expect([empty, first, reader.value()]).toEqual([null, new Map([['a', { number: '1' }]]), 'b']);
});

const HEADER_BYTES = 12;
const GUEST = {
  fromMac: new Uint8Array(6).fill(2),
  toMac: new Uint8Array(6),
  fromAddress: 0x0a00_0001,
  fromPort: 99,
};

function vectorOf(...pieces: readonly Uint8Array[]): IoVector {
  const vector = new IoVector(pieces.length);
  for (const piece of pieces) vector.add(addressOf(piece), piece.length);
  return vector;
}

function createPort() {
  const timers: (() => void)[] = [];
  const passed: number[] = [];
  const inner: NetPort = {
    send: (packet) => passed.push(packet.bytes),
    sendBytes: () => {},
    receive: () => PORT_RESULT.wouldBlock,
  };
  const port = new MmdsPort(
    inner,
    { ...V1, address: 0xa9fe_a9fe },
    {
      ...effects,
      now: () => 0,
      after: (_, handler) => (timers.push(handler), () => {}),
      random: () => 5,
      readable() {},
    },
  );
  return { port, passed };
}

test('frames for the service are taken from a packet in pieces, and others pass', () => {
  const { port, passed } = createPort();
  const frame = (toAddress: number) =>
    Buffer.concat([
      new Uint8Array(HEADER_BYTES),
      buildTcp({
        ...GUEST,
        ...{ toAddress, toPort: 80, sequence: 9, acknowledgement: 0, flags: TCP_FLAG.syn, window: 1000 },
      }),
    ]);
  const ours = frame(0xa9fe_a9fe);
  const [first, second, third] = [ours.subarray(0, 7), ours.subarray(7, 40), ours.subarray(40)];
  const target = new Uint8Array(200);

  port.send(vectorOf(frame(0x0a00_0002)));
  port.send(vectorOf(first, second, third));
  const bytes = port.receive(vectorOf(target.subarray(0, 20), target.subarray(20)));
  const reply = parseFrame(target.slice(HEADER_BYTES, bytes)) as TcpSegment;

  expect(passed).toEqual([ours.length]);
  expect([reply.flags, reply.acknowledgement, reply.sequence, reply.destinationPort]).toEqual([
    0x12, 10, 5, 99,
  ]);
  expect(port.receive(vectorOf(target))).toBe(PORT_RESULT.wouldBlock);
});
