/** What a guest's process answers to volt ctl, ps, health and top: root asks those of users that it does not trust. */
import { ControlClient } from '../../../src/api/control/client.ts';
import type { Method } from '../../../src/api/control/protocol.ts';
import type { ControlResult } from '../../../src/api/index.ts';
import {
  formatBalloon,
  formatCpuChange,
  formatDevices,
  formatRegs,
  formatStatus,
  formatVcpus,
  formatWhere,
} from '../../../src/cli/ctl-format.ts';
import { formatSnapshot } from '../../../src/cli/ctl-snapshot.ts';
import { oneLine } from '../../../src/cli/log.ts';
import { ratesBetween } from '../../../src/cli/top-rates.ts';
import { formatTop } from '../../../src/cli/top-table.ts';
import { VoltError } from '../../../src/volt-error.ts';
import {
  FAKE_BALLOON,
  FAKE_DEVICE,
  FAKE_REGISTERS,
  FAKE_STATUS,
  fakeVcpu,
} from '../../../test/unit/api/control-support.ts';
import { choicesOf, kindOf, type FuzzTarget } from '../target.ts';
import { keysOf, treeVariation, type Json } from '../vary-tree.ts';

/** For people, each answer is printed by one of these. */
const PRINTERS = [
  ['status', formatStatus],
  ['vcpus', formatVcpus],
  ['vcpus', formatWhere],
  ['devices', formatDevices],
  ['balloon', formatBalloon],
  ['regs', formatRegs],
  ['cpus', formatCpuChange],
  ['snapshot', (result: ControlResult<'snapshot'>) => formatSnapshot('/srv/web.snap', result)],
  ['vcpus', (vcpus: ControlResult<'vcpus'>) => topOf(FAKE_STATUS, vcpus)],
  ['status', (status: ControlResult<'status'>) => topOf(status, [])],
] as const satisfies readonly (readonly [Method, (result: never) => string])[];

function topOf(status: ControlResult<'status'>, vcpus: ControlResult<'vcpus'>): string {
  const rates = ratesBetween({ vcpus, atMs: 0 }, { vcpus, atMs: 1000 });
  return formatTop(status, rates, { width: 100, colour: false }).join('\n');
}

const RESULTS: readonly unknown[] = [
  FAKE_STATUS,
  [
    { ...fakeVcpu(0), rip: '0xffffffff81c00a13', symbol: 'default_idle+0x13', hostCpu: 1, runtimeNs: 5 },
    fakeVcpu(1),
  ],
  [FAKE_DEVICE],
  FAKE_BALLOON,
  FAKE_REGISTERS,
  { id: 'a'.repeat(32), memoryBytes: 4096, writtenBytes: 4096, pausedMs: 1.5, totalMs: 20, liveRounds: 2 },
  { present: 4, maxCpus: 8, added: [2, 3], removed: [1], unanswered: [7] },
];

/** In one tree: the line ends between answers come when it is run. */
const ANSWERS = [
  ...RESULTS.map((result) => ({ jsonrpc: '2.0', id: 1, result })),
  { jsonrpc: '2.0', id: 1, error: { code: -32000, message: 'Cannot pause: no', data: { code: 'guest' } } },
  { jsonrpc: '2.0', id: null, error: { code: -32600, message: 'too many clients' } },
  { jsonrpc: '2.0', method: 'send-files', params: { files: ['memory', 'state'] } },
  { jsonrpc: '2.0', method: 'event', params: { kind: 'paused', vcpus: [0], atMs: 1 } },
].map((answer) => JSON.parse(JSON.stringify(answer)) as Json);

const VALUES: readonly Json[] = [
  ...[null, true, 0, 1, -1, 0.5, 2 ** 31, 2 ** 53, 1e308, [], {}, [0], [[0]]],
  ...[
    '',
    '0x10',
    '0xZ',
    'running',
    'paused',
    '\u001b]0;x\u0007',
    'a\nb',
    '\u009b31m',
    '\ud800',
    'x'.repeat(3000),
  ],
];

/** Line ends are how answers end; everything else that steers a terminal is not to come through. */
const STEERS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;

export const answersTarget: FuzzTarget = {
  name: 'answers',
  what: 'what a process that is no honest Volt answers on a control socket, as volt ctl takes and prints it',
  seeds: () => ANSWERS.map((answer) => Buffer.from(JSON.stringify(answer))),
  words: [
    '"jsonrpc":"2.0"',
    '"id":1',
    '"result":',
    '"error":{',
    '"method":"event"',
    '\n',
    '\\u001b[2J',
    '1e999',
  ],
  vary: treeVariation(ANSWERS, [...new Set(ANSWERS.flatMap(keysOf)), '__proto__', 'toString'], VALUES),
  run: async (input) => {
    const choose = choicesOf(input.subarray(0, 64));
    const kinds: string[] = [];
    for (const [method, print] of PRINTERS) {
      const client = new ControlClient('/run/volt/web/control.sock');
      const asked = client.call(method, { vcpu: 0, count: 1 } as never);
      const bytes = Buffer.concat([input, Buffer.from('\n')]);
      for (let at = 0; at < bytes.length;) {
        const end = at + 1 + choose(choose(4) === 0 ? 20 : bytes.length);
        client.received(bytes.subarray(at, end));
        at = end;
      }
      client.ended('it has said all');
      try {
        const text = (print as (result: unknown) => string)(await asked);
        if (STEERS.test(text))
          throw new Error(`${method} prints what steers a terminal: ${JSON.stringify(text)}`);
        kinds.push(`${method} printed`);
      } catch (error) {
        if (!(error instanceof VoltError)) throw error;
        if (error.message.includes('\n'))
          throw new Error(`a message of several lines: ${error.message}`, { cause: error });
        if (STEERS.test(oneLine(error.message).replaceAll('\t', ' ')))
          throw new Error('an error steers a terminal', { cause: error });
        kinds.push(kindOf(error.message));
      }
    }
    return [...new Set(kinds)].sort().join('; ');
  },
};
