/** A vhost-user back-end in this process, which does as a test says. */
import { GOOD_ANSWERS, reply, words } from '../unit/virtio/vhost-user/scripted-link.ts';

const NAMES: Readonly<Record<number, string>> = {
  1: 'getFeatures',
  15: 'getProtocolFeatures',
  17: 'getQueueNum',
};
const NEED_REPLY = 0x8;

/**
 * A daemon in this process: does what is expected, but where `answers` has something else for a request by its number,
 * or null to hang up.
 */
export function listen(path: string, answers: Readonly<Record<number, Uint8Array | null>>) {
  const heard: number[] = [];
  const listener = Bun.listen({
    unix: path,
    socket: {
      data(socket, bytes) {
        for (let at = 0; at < bytes.length; at += 12 + bytes.readUInt32LE(at + 8)) {
          const [request, flags] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
          heard.push(request);
          const answer = answers[request] ?? GOOD_ANSWERS[NAMES[request] ?? ''];
          if (answers[request] === null) return void socket.end();
          if (answer) socket.write(answer);
          else if (request === 11) socket.write(reply('getVringBase', bytes.readUInt32LE(at + 12), 0));
          else if (flags & NEED_REPLY) socket.write(Buffer.concat([words(request, 0x5, 8), words(0, 0)]));
        }
      },
    },
  });
  return { heard, [Symbol.dispose]: () => listener.stop(true) };
}
