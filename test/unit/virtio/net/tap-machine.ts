/**
 * Run inside a network namespace of its own: a tap, the network device on it, and a driver in this process that
 * speaks for a machine 10.0.7.2 to the kernel's 10.0.7.1. What it saw goes to stdout as JSON.
 */
import { readFileSync } from 'node:fs';
import { describeNet } from '../../../../src/virtio/net/device.ts';
import { NET_FEATURE as F } from '../../../../src/virtio/net/regs.ts';
import { Mapping, MAP, PROT } from '../../../../src/ffi/mapping.ts';
import { EventLoop } from '../../../../src/virtio/host/event-loop.ts';
import type { NetConfig } from '../../../../src/virtio/net/spec.ts';
import { openTapDevice } from '../../../../src/virtio/net/open-tap.ts';
import { serveTap } from '../../../../src/virtio/net/serve-tap.ts';
import { createDeviceBench } from '../device-bench.ts';
import { createServeContext } from '../serve-context.ts';
import { ramAt } from '../test-ram.ts';

const MAC = [2, 0, 0, 0, 7, 2];
const RAM_BYTES = 0x40_0000;
const BUFFER_BYTES = 2048;

function sh(command: string): void {
  const { exitCode, stderr } = Bun.spawnSync(['sh', '-ec', command]);
  if (exitCode !== 0) throw new Error(`${command}: ${stderr.toString()}`);
}

sh('ip link set lo up; ip tuntap add tap7 mode tap; ip addr add 10.0.7.1/24 dev tap7; ip link set tap7 up');
using mapping = new Mapping({
  bytes: RAM_BYTES,
  prot: PROT.read | PROT.write,
  flags: MAP.private | MAP.anonymous,
  what: 'a test',
});
const limits = { bandwidth: undefined, ops: undefined };
const config: NetConfig = {
  kind: 'net',
  forwards: [],
  creates: false,
  mtu: undefined,
  id: 'net0',
  tap: 'tap7',
  mac: Uint8Array.from(MAC),
  queues: 1,
  vhost: false,
  receiveLimits: limits,
  transmitLimits: limits,
};
const opened = openTapDevice(config, 'tap7', RAM_BYTES);
const twice = errorOf(() => openTapDevice(config, 'tap7', RAM_BYTES));
using firstEvents = new EventLoop();
using secondEvents = new EventLoop();
let events = firstEvents;
const reports: string[] = [];
const serve = () =>
  serveTap(opened.start, createServeContext(events, { report: (text) => void reports.push(text) }));
const device = serve();
const description = describeNet({ mac: config.mac, pairs: 1, mtu: undefined, offloads: true });
const features = [F.mrgRxbuf, F.mac, F.status, F.csum, F.guestCsum, F.guestTso4, F.hostTso4];
const bench = createDeviceBench(description, device, features, {
  memory: ramAt(new Uint8Array(mapping.view(0, RAM_BYTES)), mapping.address),
});
const [receive, transmit] = bench.start();
const places = new Map<number, number>();
for (let i = 0; i < 64; i++) {
  const address = bench.buffers + BUFFER_BYTES * i;
  places.set(receive!.add([{ address, length: BUFFER_BYTES, writable: true }]), address);
}
receive!.notify();
const out = bench.buffers + 0x4_0000;

function send(header: readonly number[], frame: Uint8Array): void {
  bench.bytes.fill(0, out, out + 12);
  bench.bytes.set(header, out);
  bench.bytes.set(frame, out + 12);
  transmit!.offer([{ address: out, length: 12 + frame.length }]);
}

/** The first packet to come, of one buffer, that `wanted` likes: header and frame. */
function receivePacket(wanted: (frame: Uint8Array) => boolean): Uint8Array {
  for (let turns = 0; turns < 200; turns++) {
    const used = receive!.takeUsed();
    if (!used) {
      events.after(50, () => {});
      events.runOnce();
      continue;
    }
    const at = places.get(used.id)!;
    const packet = bench.bytes.slice(at, at + used.written);
    if (wanted(packet.subarray(12))) return packet;
  }
  throw new Error('nothing came');
}

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const [me, kernel] = ['0a000702', '0a000701'];
const mac = Buffer.from(MAC).toString('hex');

// Who has 10.0.7.1?
send([], hex(`ffffffffffff ${mac} 0806 0001 0800 06 04 0001 ${mac} ${me} 000000000000 ${kernel}`));
const arp = receivePacket((frame) => frame[12] === 0x08 && frame[13] === 0x06 && frame[21] === 2).subarray(
  12,
);
const kernelMac = Buffer.from(arp.subarray(22, 28)).toString('hex');

// A datagram to a socket here, its checksum left to the device: VIRTIO_NET_HDR_F_NEEDS_CSUM, start 34, offset 6.
const heard = Promise.withResolvers<string>();
const socket = await Bun.udpSocket({
  hostname: '10.0.7.1',
  socket: {
    data(each, data, port, address) {
      heard.resolve(`${data.toString()} from ${address}:${port}`);
      each.send('answer', port, address);
    },
  },
});
const portHex = socket.port.toString(16).padStart(4, '0');
const text = Buffer.from('question').toString('hex');
const pseudo = 0x0a00 + 0x0702 + 0x0a00 + 0x0701 + 17 + 16;
const ip = `4500 0024 0001 0000 40 11 ${ipChecksum(0x4500 + 0x24 + 1 + 0x4011)} ${me} ${kernel}`;
send(
  [1, 0, 0, 0, 0, 0, 34, 0, 6, 0],
  hex(`${kernelMac} ${mac} 0800 ${ip} 1234 ${portHex} 0010 ${pseudo.toString(16).padStart(4, '0')} ${text}`),
);
const question = await heard.promise;
await Bun.sleep(20);
const answer = receivePacket((frame) => frame[12] === 0x08 && frame[13] === 0 && frame[23] === 17);
socket.close();

// In another machine it is announced, because its driver cannot announce itself, and goes on.
const announcedBefore = packetsFromGuest();
events = secondEvents;
bench.move('net', serve());
const announcements = packetsFromGuest() - announcedBefore;
send([], hex(`ffffffffffff ${mac} 0806 0001 0800 06 04 0001 ${mac} ${me} 000000000000 ${kernel}`));
const arpAfterMove = receivePacket((frame) => frame[12] === 0x08 && frame[13] === 0x06 && frame[21] === 2);

// The tap goes away under the device.
const interrupts = bench.interrupts();
sh('ip link del tap7');
for (let i = 0; i < 5 && bench.interrupts() === interrupts; i++) {
  events.after(50, () => {});
  events.runOnce();
}
send([], new Uint8Array(60));
const linkStatus = bench.read(0x106, 2);
bench.runner.stop();
opened.close();

process.stdout.write(
  JSON.stringify({
    arp: Buffer.from(arp.subarray(28, 32)).join('.'),
    question,
    answer: Buffer.from(answer.subarray(12 + 42, 12 + 48)).toString(),
    checksumLeftToGuest: (answer[0]! & 1) !== 0,
    buffers: answer[10],
    announcements,
    arpAfterMove: Buffer.from(arpAfterMove.subarray(12 + 28, 12 + 32)).join('.'),
    linkStatus,
    needsReset: bench.needsReset(),
    reports,
    twice,
  }),
);

/** Packets that the kernel has had from the tap. (proc(5), /proc/net/dev: name, bytes, packets, …) */
function packetsFromGuest(): number {
  return Number(/tap7:\s*\d+\s+(\d+)/.exec(readFileSync('/proc/self/net/dev', 'utf8'))![1]);
}

function errorOf(act: () => void): string {
  try {
    act();
    return 'no error';
  } catch (error) {
    return (error as Error).message;
  }
}

function ipChecksum(fixed: number): string {
  let sum = fixed + 0x0a00 + 0x0702 + 0x0a00 + 0x0701;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return (~sum & 0xffff).toString(16).padStart(4, '0');
}
