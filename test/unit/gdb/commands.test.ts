/** What payloads mean, and that nothing a client sends is taken for more than it is. */
import { describe, expect, test } from 'bun:test';
import { decodeCommand } from '../../../src/gdb/commands.ts';

const decode = (text: string) => decodeCommand(Buffer.from(text, 'latin1'));

describe('commands of gdb', () => {
  test.each([
    ['?', { kind: 'why-stopped' }],
    ['g', { kind: 'read-registers' }],
    ['G00ff', { kind: 'write-registers', bytes: Uint8Array.of(0, 0xff) }],
    ['p1f', { kind: 'read-register', register: 0x1f }],
    ['P10=0010', { kind: 'write-register', register: 0x10, bytes: Uint8Array.of(0, 0x10) }],
    ['mffffffff81000000,40', { kind: 'read-memory', address: 0xffff_ffff_8100_0000n, bytes: 0x40 }],
    ['M10,2:90cc', { kind: 'write-memory', address: 0x10n, data: Uint8Array.of(0x90, 0xcc) }],
    ['X10,2:,:', { kind: 'write-memory', address: 0x10n, data: Uint8Array.of(0x2c, 0x3a) }],
    ['X10,0:', { kind: 'write-memory', address: 0x10n, data: new Uint8Array() }],
    ['Hg2', { kind: 'select-thread', use: 'general', thread: 2 }],
    ['Hc-1', { kind: 'select-thread', use: 'continue', thread: 'all' }],
    ['Hg0', { kind: 'select-thread', use: 'general', thread: 'any' }],
    ['T3', { kind: 'is-alive', thread: 3 }],
    ['Z0,1029eb,1', { kind: 'insert', type: 'software', address: 0x1029ebn, bytes: 1 }],
    ['z2,10,8', { kind: 'remove', type: 'write', address: 0x10n, bytes: 8 }],
    ['c', { kind: 'resume', actions: [{ kind: 'continue', thread: 'any' }] }],
    ['D', { kind: 'detach' }],
    ['D;1', { kind: 'detach' }],
    ['k', { kind: 'kill' }],
    ['vKill;1', { kind: 'kill' }],
    ['qSupported:swbreak+;x+', { kind: 'supported', features: ['swbreak+', 'x+'] }],
    ['qRcmd,68656c70', { kind: 'monitor', line: 'help' }],
    [
      'qXfer:features:read:target.xml:10,ffb',
      { kind: 'read-object', object: 'features', annex: 'target.xml', offset: 0x10, bytes: 0xffb },
    ],
  ] as const)('%j', (text, command) => {
    expect(decode(text)).toEqual(command as never);
  });

  test('vCont has actions for threads, the leftmost first', () => {
    expect(decode('vCont;s:1;r1000,1010:2;C05:3;c')).toEqual({
      kind: 'resume',
      actions: [
        { kind: 'step', thread: 1 },
        { kind: 'step', range: [0x1000n, 0x1010n], thread: 2 },
        { kind: 'continue', thread: 3 },
        { kind: 'continue', thread: 'all' },
      ],
    });
  });

  test('more actions than a guest can have vCPUs are malformed', () => {
    expect(decode(`vCont${';c'.repeat(2000)}`).kind).toBe('malformed');
  });

  test.each([
    'm',
    'm10',
    'm10,',
    'm,10',
    'm10,ffffffff',
    'm-1,4',
    'm11112222333344445,1',
    'M10,2:90',
    'M10,1:9g',
    'X10,3:ab',
    'P=00',
    'P10=',
    'P10=0',
    'p',
    'pfffffff',
    'G0',
    'T',
    'Hg-2',
    'Z0,10',
    'Z0,,1',
    'Z2,10,1001',
    'vCont;',
    'vCont;x:1',
    'vCont;s:1;;c',
    'qRcmd,6',
    'qThreadExtraInfo,',
  ])('%p is malformed', (text) => {
    expect(decode(text).kind).toBe('malformed');
  });

  test.each([
    '',
    'vMustReplyEmpty',
    'qTStatus',
    'Z5,10,1',
    '!',
    'c1000',
    'Hx1',
    '\xff',
    '__proto__',
    'toString',
  ])('%p is not supported', (text) => {
    expect(decode(text).kind).toBe('unsupported');
  });
});
