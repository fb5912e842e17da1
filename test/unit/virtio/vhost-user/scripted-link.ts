/** The other end of a vhost-user connection, that answers as a test says, for tests. */
import { VhostUserError } from '../../../../src/virtio/vhost-user/session.ts';
import { VHOST_REQUEST } from '../../../../src/virtio/vhost-user/regs.ts';

const NAME_OF = new Map(Object.entries(VHOST_REQUEST).map(([name, number]) => [number as number, name]));
const NEED_REPLY = 0x8;
const HEADER = 12;

export interface ScriptedLink {
  /** What was sent: the name, its payload's 32-bit words, and descriptors. */
  readonly heard: {
    readonly name: string;
    readonly words: readonly number[];
    readonly fds: readonly number[];
  }[];
  /** Whether it was severed. */
  severed: boolean;
  send(message: Uint8Array, fds: readonly number[]): void;
  receive(target: Uint8Array): void;
}

export function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export function reply(name: keyof typeof VHOST_REQUEST, ...payload: number[]): Uint8Array {
  return Buffer.concat([words(VHOST_REQUEST[name], 0x5, 4 * payload.length), words(...payload)]);
}

/** Bits 32 (VERSION_1), 30 (protocol features), 29 and 28; multiple queues and acknowledgements. */
export const GOOD_ANSWERS: Readonly<Record<string, Uint8Array>> = {
  getFeatures: reply('getFeatures', 0x7000_0000, 0x1),
  getProtocolFeatures: reply('getProtocolFeatures', 0xffff_ffff, 0),
  getQueueNum: reply('getQueueNum', 2, 0),
};

/**
 * Acknowledges what asks for it, stops rings, and answers as `answers` says, by the name of the request; `undefined`
 * there hangs up.
 */
export function createScriptedLink(answers: Readonly<Record<string, Uint8Array | undefined>>): ScriptedLink {
  let waiting = Buffer.alloc(0);
  const link: ScriptedLink = {
    heard: [],
    severed: false,
    send(message, fds) {
      if (link.severed) throw new VhostUserError('hung up');
      const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
      const request = view.getUint32(0, true);
      const name = NAME_OF.get(request)!;
      const payload = Array.from({ length: (message.length - HEADER) / 4 }, (_, i) =>
        view.getUint32(HEADER + 4 * i, true),
      );
      link.heard.push({ name, words: payload, fds });
      if (Object.hasOwn(answers, name)) waiting = Buffer.concat([waiting, answers[name] ?? new Uint8Array()]);
      else if (name === 'getVringBase') waiting = Buffer.concat([waiting, reply(name, payload[0]!, 0)]);
      else if (view.getUint32(4, true) & NEED_REPLY)
        waiting = Buffer.concat([waiting, words(request, 0x5, 8), words(0, 0)]);
    },
    receive(target) {
      if (waiting.length < target.length) throw new VhostUserError('hung up');
      target.set(waiting.subarray(0, target.length));
      waiting = waiting.subarray(target.length);
    },
  };
  return link;
}
