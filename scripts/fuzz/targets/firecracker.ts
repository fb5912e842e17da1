/** What clients of Firecracker's API send, from bytes to actions, and what a guest sends to the metadata service. */
import { RequestParser } from '../../../src/api/firecracker/http/request-parser.ts';
import { formatContinue, formatFault } from '../../../src/api/firecracker/http/response.ts';
import { ActionFault } from '../../../src/api/firecracker/model/fault.ts';
import { toConfigInput } from '../../../src/api/firecracker/model/machine-input.ts';
import { MmdsStore } from '../../../src/api/firecracker/model/mmds-store.ts';
import { VmResources } from '../../../src/api/firecracker/model/resources.ts';
import { refusalByOrder, type Action } from '../../../src/api/firecracker/request/action.ts';
import { describeRequest, parseRequest } from '../../../src/api/firecracker/request/parse.ts';
import { parseConfig } from '../../../src/config/config.ts';
import { formatOutput } from '../../../src/json/output.ts';
import { buildArpReply, buildTcp, parseFrame, TCP_FLAG } from '../../../src/virtio/net/mmds/frames.ts';
import { answerMmds } from '../../../src/virtio/net/mmds/http.ts';
import { TcpServer } from '../../../src/virtio/net/mmds/tcp-server.ts';
import { VoltError } from '../../../src/volt-error.ts';
import exchanges from '../../../test/vectors/firecracker/exchanges.json' with { type: 'json' };
import { kindOf, type FuzzTarget } from '../target.ts';

const MAX_BODY_BYTES = 51_200;
const EVERYTHING_EXISTS = {
  readable: () => undefined,
  disk: () => undefined,
  tap: () => undefined,
  vsock: () => undefined,
  isEmpty: () => false,
  socket: () => undefined,
};

interface Recorded {
  readonly raw?: string;
  readonly request?: string;
  readonly body?: string;
}

function toBytes({ raw, request, body }: Recorded): Uint8Array {
  const length = body === undefined ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  return Buffer.from(raw ?? `${request} HTTP/1.1\r\nHost: x\r\n${length}\r\n${body ?? ''}`, 'utf8');
}

export const firecrackerTarget: FuzzTarget = {
  name: 'firecracker',
  what: "requests to Firecracker's API, up to a machine's configuration",
  seeds: () => (exchanges as readonly Recorded[]).map(toBytes),
  words: [
    'PUT /',
    'PATCH /',
    'GET /',
    ' HTTP/1.1\r\n',
    'Content-Length: ',
    '\r\n\r\n',
    'null',
    '"',
    '{',
    '}',
    '\\u',
    '1e9',
  ],
  run(input) {
    const resources = new VmResources(EVERYTHING_EXISTS);
    const mmds = new MmdsStore(MAX_BODY_BYTES, () => {});
    const outcomes = new Set<string>();
    for (const event of new RequestParser(MAX_BODY_BYTES).push(input)) {
      if (event.kind === 'fault') {
        formatFault(event.message);
        outcomes.add(kindOf(event.message));
      } else if (event.kind === 'continue') {
        formatContinue(event.version);
      } else {
        describeRequest(event.request, true);
        const parsed = parseRequest(event.request, () => {});
        outcomes.add(
          parsed.kind === 'refused' ? kindOf(parsed.message) : configure(parsed.action, resources, mmds),
        );
      }
    }
    return [...outcomes].sort().join(' ').slice(0, 200);
  },
};

/** Applies what configures a machine; the configuration is then valid or refused in words. */
function configure(action: Action, resources: VmResources, mmds: MmdsStore): string {
  if (refusalByOrder(action.name, false) !== undefined) return 'order';
  try {
    apply(action, resources, mmds);
    JSON.parse(formatOutput(resources.describeAll()));
    parseConfig(toConfigInput(resources));
    return action.name;
  } catch (error) {
    if (error instanceof ActionFault || error instanceof VoltError) return kindOf(error.message);
    throw error;
  }
}

function apply({ name, operand }: Action, resources: VmResources, mmds: MmdsStore): void {
  switch (name) {
    case 'ConfigureBootSource':
      return resources.setBootSource(operand);
    case 'InsertBlockDevice':
      return resources.insertDrive(operand);
    case 'InsertNetworkDevice':
      return resources.insertInterface(operand);
    case 'InsertPmemDevice':
      return resources.insertPmem(operand);
    case 'SetBalloonDevice':
      return resources.setBalloon(operand);
    case 'SetEntropyDevice':
      return resources.setEntropy(operand);
    case 'SetMmdsConfiguration':
      return resources.setMmds(operand);
    case 'SetVsockDevice':
      return resources.setVsock(operand);
    case 'UpdateMachineConfiguration':
      return resources.updateMachine(operand);
    case 'PutCpuConfiguration':
      return resources.setCpuTemplate(operand);
    case 'PutMmds':
      return mmds.put(operand);
    case 'PatchMmds':
      return mmds.patch(operand);
    default:
  }
}

const ADDRESS = 0xa9fe_a9fe;
const MAC = Uint8Array.of(6, 0, 0, 0, 0, 1);
const GUEST = {
  fromMac: MAC,
  toMac: MAC,
  fromAddress: 0x0a00_0001,
  toAddress: ADDRESS,
  fromPort: 4000,
  toPort: 80,
  window: 1000,
};

/** Frames, each behind its length as a u16. */
function frames(...all: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    all.flatMap((frame) => [Uint8Array.of(frame.length & 0xff, frame.length >>> 8), frame]),
  );
}

export const mmdsTarget: FuzzTarget = {
  name: 'mmds',
  what: "a guest's frames to the metadata service",
  seeds: () => {
    const segment = (flags: number, sequence: number, acknowledgement: number, text = '') =>
      buildTcp({ ...GUEST, sequence, acknowledgement, flags, payload: Buffer.from(text) });
    const arp = buildArpReply(
      { kind: 'arp', senderMac: MAC, senderAddress: ADDRESS },
      MAC,
      GUEST.fromAddress,
    );
    arp[21] = 1;
    const request = 'GET /a HTTP/1.1\r\nAccept: application/json\r\n\r\n';
    const open = [segment(TCP_FLAG.syn, 100, 0), segment(TCP_FLAG.ack, 101, 8)];
    return [
      frames(arp),
      frames(...open, segment(TCP_FLAG.ack | TCP_FLAG.psh, 101, 8, request)),
      frames(...open, segment(TCP_FLAG.ack | TCP_FLAG.fin, 101, 8, `${request}${request}`)),
      frames(...open, segment(TCP_FLAG.rst, 101, 8)),
      frames(
        ...open,
        segment(
          TCP_FLAG.ack,
          101,
          8,
          'PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 5\r\n\r\n',
        ),
      ),
    ];
  },
  words: ['GET /', '\r\n\r\n', 'X-metadata-token: ', 'Accept: application/json', ' HTTP/1.1'],
  run(input) {
    const timers = new Set<() => void>();
    const sent: Uint8Array[] = [];
    const value = new Map([['a', 'x'.repeat(4000)]]);
    const effects = {
      value: () => value,
      createToken: () => 'token',
      isValidToken: (text: string) => text === 'token',
    };
    const settings = { version: input.length % 2 === 0 ? 'V1' : 'V2', imdsCompat: false } as const;
    const server = new TcpServer(
      { mac: MAC, address: ADDRESS, port: 80, answer: (bytes) => answerMmds(bytes, settings, effects) },
      {
        send: (frame) => sent.push(frame),
        now: () => 0,
        after(_, handler) {
          timers.add(handler);
          return () => timers.delete(handler);
        },
        random: () => 7,
      },
    );
    for (let at = 0; at + 2 <= input.length;) {
      const length = input[at]! | (input[at + 1]! << 8);
      const parsed = parseFrame(input.subarray(at + 2, at + 2 + length));
      at += 2 + length;
      if (parsed?.kind === 'arp') sent.push(buildArpReply(parsed, MAC, ADDRESS));
      else if (parsed) server.receive(parsed);
      if (length % 8 === 3) for (const timer of [...timers]) if (timers.delete(timer)) timer();
    }
    if (timers.size > 30) throw new Error(`${timers.size} connections wait (expected at most 30)`);
    for (let round = 0; timers.size > 0; round++) {
      if (round > 40) throw new Error('a connection is never given up');
      for (const timer of [...timers]) if (timers.delete(timer)) timer();
    }
    return sent
      .map((frame) => frame[47] ?? 'arp')
      .slice(0, 20)
      .join(' ');
  },
};
