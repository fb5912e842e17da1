/**
 * Beside a guest with a vsock: serves what it connects to, connects to what it serves, prints what came of it as
 * JSON. Usage: vsock-rounds.ts SOCKET VOLT ARGUMENT…
 */
import { startGuest } from './guest-session.ts';

const [path, ...argv] = process.argv.slice(2) as [string, ...string[]];
const PAYLOAD = Buffer.alloc(1 << 20, 'volt and its guest talk over this socket; ');
const CONNECTIONS = 8;

let upper = '';
Bun.listen({
  unix: `${path}_52`,
  socket: {
    data(socket, bytes) {
      upper += bytes.toString();
      socket.write(bytes.toString().toUpperCase());
    },
  },
});
const goodbye = Promise.withResolvers<void>();
Bun.listen({
  unix: `${path}_53`,
  socket: { data() {}, open: (socket) => void goodbye.promise.then(() => socket.end()) },
});

const guest = startGuest(argv);
await guest.until('VOLT-GUEST serving');
const sums = await Promise.all(Array.from({ length: CONNECTIONS }, () => echo(80)));
const refused = await converse(81, Buffer.from('anybody?'));
goodbye.resolve();
const exitCode = await guest.ended;
const lines = guest.text().match(/VOLT-GUEST (heard|refused)[^\r]*/g);
process.stdout.write(
  `\n${JSON.stringify({ echoed: sums.filter((same) => same).length, refused: refused.length, upper, lines, exitCode })}\n`,
);
process.exit(0);

/** Whether the guest's cat gives back what it was given. */
async function echo(port: number): Promise<boolean> {
  const text = await converse(port, PAYLOAD);
  const newline = text.indexOf(0x0a);
  return /^OK \d+$/.test(text.toString('latin1', 0, newline)) && text.subarray(newline + 1).equals(PAYLOAD);
}

/** Connects, sends, and returns all that came until the end. */
async function converse(port: number, payload: Buffer): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const done = Promise.withResolvers<void>();
  let sent = 0;
  const command = Buffer.from(`CONNECT ${port}\n`);
  const all = Buffer.concat([command, payload]);
  let received = 0;
  const push = (socket: Bun.Socket) => void (sent += socket.write(all, sent));
  await Bun.connect({
    unix: path,
    socket: {
      open: push,
      drain: push,
      data(socket, bytes) {
        pieces.push(Buffer.from(bytes));
        received += bytes.length;
        const end = Buffer.concat(pieces.slice(0, 2)).indexOf(0x0a);
        if (end >= 0 && received === end + 1 + payload.length) socket.end();
      },
      close: () => done.resolve(),
    },
  });
  await done.promise;
  return Buffer.concat(pieces);
}
