/** Pluggable memory on a real KVM, inside the sandbox: a tiny driver plugs, asks and unplugs. */
import { expect, setDefaultTimeout } from 'bun:test';
import { GIB, MIB } from '../../src/machine/address.ts';
import { MEM_REQUEST_TYPE as TYPE, MEM_RESPONSE_TYPE as RESPONSE } from '../../src/virtio/mem/regs.ts';
import { kvmOpens } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { runKernel } from './guest-run.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { DATA, virtioAsm, virtioImage, type GuestBuffer } from './virtio-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const REQUEST_BYTES = 24;
const ANSWER_BYTES = 10;
const STRIDE = 0x40;

/** Sends requests of a type, a first block and a number of blocks of 2 MiB, and prints the type of each response. */
function askingGuest(rows: readonly (readonly [type: number, block: number, blocks: number])[]): Uint8Array {
  const data = Buffer.alloc(rows.length * STRIDE);
  const chains = rows.map(([type, block, blocks], i): GuestBuffer[] => {
    const at = i * STRIDE;
    data.writeUInt16LE(type, at);
    data.writeBigUInt64LE(BigInt(4 * GIB + block * 2 * MIB), at + 8);
    data.writeUInt16LE(blocks, at + 16);
    return [
      { address: DATA + at, length: REQUEST_BYTES },
      { address: DATA + at + REQUEST_BYTES, length: ANSWER_BYTES, writable: true },
    ];
  });
  const code = [
    virtioAsm.start(),
    rows.flatMap((_, i) => [...virtioAsm.offer(i + 1), ...virtioAsm.waitUsed(i + 1)]),
    rows.flatMap((_, i) => asm.printMemory(DATA + i * STRIDE + REQUEST_BYTES, 1)),
    asm.exit(0),
  ];
  return buildPvhElf(virtioImage(code, chains, data));
}

testNeeding('/dev/kvm', !kvmOpens)('A driver plugs and unplugs memory', async () => {
  const guest = askingGuest([
    [TYPE.plug, 0, 16],
    [TYPE.unplug, 0, 16],
    [TYPE.plug, 63, 1],
    [TYPE.plug, 0, 32],
  ]);

  const run = await runKernel(guest, ['--memory-hotplug', 'size=128M,requested=64M']);

  expect(run.stderr).toBe('');
  expect([...run.bytes]).toEqual([RESPONSE.ack, RESPONSE.ack, RESPONSE.ack, RESPONSE.nack]);
  expect(run.exitCode).toBe(0);
});
