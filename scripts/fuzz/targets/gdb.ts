/** What a client of `--gdb` sends, and the page tables of a guest that it reads memory by. */
import { decodeCommand } from '../../../src/gdb/commands.ts';
import { encodeDebugRegisters, splitRange, type DebugStop } from '../../../src/gdb/debug-registers.ts';
import { createPacketReader, encodePacket, MAX_PACKET_BYTES, readPackets } from '../../../src/gdb/packets.ts';
import { translate } from '../../../src/gdb/page-walk.ts';
import { choicesOf, type FuzzTarget } from '../target.ts';

const PACKETS = [
  'qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+',
  'qXfer:features:read:target.xml:0,ffb',
  'qThreadExtraInfo,1',
  'vCont;s:1;c',
  'vCont;r1000,1010:2;c:-1',
  'm1000,40',
  'M1000,2:90cc',
  'X1000,2:\x00}',
  'P10=0010000000000000',
  'p10',
  'Z0,1029eb,1',
  'z2,1001,8',
  'Hg0',
  'T1',
  'qRcmd,68656c70',
  'QStartNoAckMode',
];

export const gdbTarget: FuzzTarget = {
  name: 'gdb',
  what: 'bytes of a gdb in pieces, the commands in them, and a walk of page tables made of them',
  seeds: () => PACKETS.map((payload) => encodePacket(payload)),
  words: [...PACKETS, '$', '#', '}', '\x03', '+', '-', ',', ':', ';', '-1', 'ffffffffffffffff'],
  run: (input) => {
    const choose = choicesOf(input.subarray(0, 64));
    const reader = createPacketReader();
    const kinds = new Set<string>();
    for (let at = 0; at < input.length;) {
      const end = at + 1 + choose(choose(2) ? 8 : input.length);
      for (const found of readPackets(reader, input.subarray(at, end))) {
        if (found.kind !== 'packet') kinds.add(found.kind);
        else if (found.payload.length > MAX_PACKET_BYTES) throw new Error('a packet above the limit');
        else kinds.add(checkCommand(found.payload));
      }
      at = end;
    }
    kinds.add(checkWalk(input));
    return [...kinds].sort().join(' ');
  },
};

function checkCommand(payload: Uint8Array): string {
  const command = decodeCommand(payload);
  if (command.kind !== 'insert' || command.type === 'software') return command.kind;
  const pieces = splitRange(command.address, command.bytes);
  const sum = pieces.reduce((bytes, piece) => bytes + piece.bytes, 0);
  if (sum !== command.bytes) throw new Error('a watched range that is split wrongly');
  const stops = pieces.slice(0, 4).map((piece) => ({ ...piece, type: command.type }) as DebugStop);
  encodeDebugRegisters(stops);
  return command.type;
}

/** Every entry of every table comes from the input. */
function checkWalk(input: Uint8Array): string {
  const bytes = new Uint8Array(64);
  bytes.set(input.subarray(0, 64));
  const view = new DataView(bytes.buffer);
  const word = (i: number) => view.getBigUint64(8 * i, true);
  const registers = { cr0: word(0), cr3: word(1), cr4: word(2), efer: word(3) };
  let reads = 0;
  const found = translate(word(4), registers, (physical, size) => {
    if (++reads > 5) throw new Error('a walk of more than five levels');
    if (!Number.isSafeInteger(physical) || physical < 0) throw new Error(`an entry at ${physical}`);
    return size === 8 ? word(physical % 8) : BigInt(view.getUint32(4 * (physical % 16), true));
  });
  if (!found) return 'unmapped';
  if (found.bytesLeft <= 0 || !Number.isSafeInteger(found.physical)) throw new Error('a page without bytes');
  return `page ${reads}`;
}
