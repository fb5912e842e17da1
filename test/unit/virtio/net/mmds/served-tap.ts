/**
 * Serves metadata to this host's own TCP, in a network namespace: a tap between them carries the frames. Argument: V1 or
 * V2; standard input: the metadata. Prints "ready", and ends with its standard input.
 */
import { JsonReader } from '../../../../../src/json/reader.ts';
import { readValue } from '../../../../../src/json/value.ts';
import { openTap, readVector, writeBytes } from '../../../../../src/ffi/tap.ts';
import { addressOf } from '../../../../../src/ffi/libc.ts';
import { buildArpReply, parseFrame } from '../../../../../src/virtio/net/mmds/frames.ts';
import { answerMmds } from '../../../../../src/virtio/net/mmds/http.ts';
import { TcpServer } from '../../../../../src/virtio/net/mmds/tcp-server.ts';
import { Tokens } from '../../../../../src/virtio/net/mmds/tokens.ts';
import { IoVector } from '../../../../../src/virtio/transport/io-vector.ts';

const HEADER_BYTES = 12;
const ADDRESS = 0xa9fe_a9fe;
const MAC = Uint8Array.of(6, 1, 2, 3, 4, 5);
const [version, text] = [process.argv[2] as 'V1' | 'V2', process.argv[3]!];

const [tap] = openTap('tap0', 1, HEADER_BYTES);
Bun.spawnSync(['ip', 'addr', 'add', '169.254.1.1/16', 'dev', 'tap0']);
Bun.spawnSync(['ip', 'link', 'set', 'tap0', 'up']);
const value = readValue(new JsonReader(Buffer.from(text)));
const tokens = new Tokens('demo', new Uint8Array(32), () => performance.now());
const effects = {
  value: () => value,
  createToken: (seconds: number) => tokens.create(seconds),
  isValidToken: (token: string) => tokens.isValid(token),
};
const send = (frame: Uint8Array) => writeBytes(tap!.fd, Buffer.concat([new Uint8Array(HEADER_BYTES), frame]));
const server = new TcpServer(
  {
    mac: MAC,
    address: ADDRESS,
    port: 80,
    answer: (bytes) => answerMmds(bytes, { version, imdsCompat: false }, effects),
  },
  {
    send,
    now: () => performance.now(),
    after(delayMs, handler) {
      const timer = setTimeout(handler, delayMs);
      return () => clearTimeout(timer);
    },
    random: () => crypto.getRandomValues(new Uint32Array(1))[0]!,
  },
);

const buffer = new Uint8Array(65_550);
const vector = new IoVector(1);
vector.add(addressOf(buffer), buffer.length);
console.log('ready');
setInterval(() => {
  for (;;) {
    const bytes = readVector(tap!.fd, vector.words, 0, 1);
    if (bytes <= 0) return;
    const parsed = parseFrame(buffer.slice(HEADER_BYTES, bytes));
    if (parsed?.kind === 'arp') send(buildArpReply(parsed, MAC, ADDRESS));
    else if (parsed) server.receive(parsed);
  }
}, 1);
