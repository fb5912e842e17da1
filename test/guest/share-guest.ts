/** Guests that speak FUSE, a few requests of it, to the shared folder at the first place of the bus. */
import { PORT } from '../../src/machine/ports.ts';
import { ENOTCONN } from '../../src/virtio/share/regs.ts';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { asm, u32 } from './tiny-guest.ts';
import { AVAIL, DATA, USED, virtioAsm, virtioImage, type GuestBuffer } from './virtio-guest.ts';

/** (Linux uapi/linux/fuse.h) */
const FUSE = { lookup: 1, statfs: 17, init: 26 } as const;
const ROOT_NODE = 1;
const IN_HEADER = 40;
const REQUEST_BYTES = 64;
const ANSWER_BYTES = 160;
const STRIDE = REQUEST_BYTES + ANSWER_BYTES;
const { start, offer, waitUsed, waitInterrupt, routeInterrupt, read, write } = virtioAsm;

/** Length and error of an answer, then what follows its number. */
const ANSWER_HEADER = 16;

function request(slot: number, opcode: number, body: Uint8Array) {
  const bytes = Buffer.alloc(STRIDE);
  bytes.writeUInt32LE(IN_HEADER + body.length, 0);
  bytes.writeUInt32LE(opcode, 4);
  bytes.writeUInt32LE(100 + slot, 8);
  bytes.writeUInt32LE(opcode === FUSE.init ? 0 : ROOT_NODE, 16);
  bytes.set(body, IN_HEADER);
  const at = DATA + slot * STRIDE;
  const chain: GuestBuffer[] = [
    { address: at, length: IN_HEADER + body.length },
    { address: at + REQUEST_BYTES, length: ANSWER_BYTES, writable: true },
  ];
  return { bytes, chain, answer: at + REQUEST_BYTES };
}

/** FUSE 7.31, as virtiofsd wants it at least. */
const init = () => request(0, FUSE.init, new Uint8Array(Uint32Array.of(7, 31, 0x2_0000, 0).buffer));

/**
 * Mounts the share by hand and looks for a file `name`: prints the interrupt status, the header of each answer, and the
 * file's size (u32). Then it resets the machine, or ends with 0.
 */
export function lookingGuest(name: string, resets: boolean): Uint8Array {
  const requests = [init(), request(1, FUSE.lookup, Buffer.from(`${name}\0`))];
  // struct fuse_entry_out: 40 bytes, then fuse_attr with the size behind the inode number.
  const size = requests[1]!.answer + ANSWER_HEADER + 40 + 8;
  const code = [
    [...routeInterrupt(), ...start(), ...offer(1), ...waitInterrupt()],
    [...read(R.interruptStatus), ...asm.printEax(1)],
    [...waitUsed(1), ...offer(2), ...waitUsed(2)],
    requests.flatMap(({ answer }) => asm.printMemory(answer, 8)),
    asm.printMemory(size, 4),
    resets ? [...asm.out8(PORT.i8042Command, 0xfe), ...asm.halt()] : asm.exit(0),
  ];
  return image(code, requests, [0, 1]);
}

/** Asks for the state of the file system until the answer is ENOTCONN; says "busy" once and "lost" at the end. */
export function busyGuest(): Uint8Array {
  const requests = [init(), request(1, FUSE.statfs, new Uint8Array())];
  const next = [
    ...[...asm.readEax(AVAIL), 0x05, ...u32(0x1_0000), ...asm.storeEax(AVAIL)], // add eax, 0x10000
    ...write(R.queueNotify, 0),
    ...asm.untilZero([...asm.readEax(USED), 0x2b, 0x05, ...u32(AVAIL)]), // sub eax, [AVAIL]
  ];
  const error = requests[1]!.answer + 4;
  const untilLost = asm.untilZero([...next, ...asm.readEax(error), 0x05, ...u32(ENOTCONN)]); // add eax, 107
  const code = [
    [...start(), ...next, ...asm.print('busy\n')],
    [...untilLost, ...asm.print('lost\n'), ...asm.exit(0)],
  ];
  return image(code, requests, [0, 1, 1, 1, 1, 1, 1, 1]);
}

function image(
  code: readonly (readonly number[])[],
  requests: readonly ReturnType<typeof request>[],
  order: readonly number[],
): Uint8Array {
  const data = Buffer.concat(requests.map(({ bytes }) => bytes));
  return virtioImage(
    code,
    requests.map(({ chain }) => chain),
    data,
    order,
  );
}
