/** Frames over a stream, with a test at the other end; and passt itself, where it is installed. */
import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeNet } from '../../../../src/virtio/net/device.ts';
import { IoVector } from '../../../../src/virtio/transport/io-vector.ts';
import { PORT_RESULT } from '../../../../src/virtio/net/port.ts';
import { NET_FEATURE as F } from '../../../../src/virtio/net/regs.ts';
import { MAP, Mapping, PROT } from '../../../../src/ffi/mapping.ts';
import { createHelperSocket, createSocketPair } from '../../../../src/ffi/socket-pair.ts';
import { receiveBytes, sendBytes } from '../../../../src/ffi/unix-stream.ts';
import { EventLoop } from '../../../../src/virtio/host/event-loop.ts';
import { createHelperOutput } from '../../../../src/virtio/host/helper-output.ts';
import { createPasstBuffer, PasstPort } from '../../../../src/virtio/net/passt-port.ts';
import { openPasst } from '../../../../src/virtio/net/open-passt.ts';
import { servePasst } from '../../../../src/virtio/net/serve-passt.ts';
import { createDeviceBench } from '../device-bench.ts';
import { createServeContext } from '../serve-context.ts';
import { ramAt } from '../test-ram.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const O_NONBLOCK = 0o4000;
const stack = new DisposableStack();
afterAll(() => stack.dispose());

function mapRam(bytes: number) {
  const flags = MAP.private | MAP.anonymous;
  const mapping = stack.use(new Mapping({ bytes, prot: PROT.read | PROT.write, flags, what: 'a test' }));
  return { bytes: new Uint8Array(mapping.view(0, bytes)), host: mapping.address as number };
}

function createPort() {
  const [ours, theirs] = createSocketPair(true);
  stack.use(ours);
  stack.use(theirs);
  const buffer = createPasstBuffer();
  const again = () => new PasstPort(ours.fd, buffer);
  const ram = mapRam(0x4_0000);
  const vector = (...pieces: [number, number][]) => {
    const each = new IoVector(8);
    for (const [at, length] of pieces) each.add(ram.host + at, length);
    return each;
  };
  return { port: new PasstPort(ours.fd, buffer), fd: theirs.fd, ram: ram.bytes, vector, again };
}

const framed = (...texts: string[]) =>
  Buffer.concat(texts.map((text) => Buffer.concat([Buffer.of(0, 0, 0, text.length), Buffer.from(text)])));

describe('the port of passt', () => {
  test('sends frames behind their length, without the packet header', () => {
    const { port, fd, ram, vector } = createPort();
    ram.set(Buffer.from('hhhhhhhhhhhhframe'), 0);
    ram.set(Buffer.from(' goes on'), 100);
    const got = new Uint8Array(100);

    port.send(vector([0, 10], [10, 7], [100, 8]));

    expect(receiveBytes(fd, got, 100)).toBe(17);
    expect(Buffer.from(got.subarray(0, 17))).toEqual(framed('frame goes on'));
  });

  test('receives frames, however the stream cuts them', () => {
    const { port, fd, ram, vector } = createPort();
    const all = framed('one', 'two two', 'three');
    ram.fill(0xee, 0, 100);

    sendBytes(fd, all.subarray(0, 2));
    const early = port.receive(vector([0, 100]));
    sendBytes(fd, all.subarray(2, 13));
    const first = port.receive(vector([0, 100]));
    const second = port.receive(vector([200, 100]));
    sendBytes(fd, all.subarray(13));
    const third = [port.receive(vector([200, 100])), port.receive(vector([300, 5], [310, 9], [320, 100]))];

    expect([early, first, second]).toEqual([PORT_RESULT.wouldBlock, 15, PORT_RESULT.wouldBlock]);
    expect([...ram.subarray(0, 12)]).toEqual(Array(12).fill(0));
    expect(Buffer.from(ram.subarray(12, 15)).toString()).toBe('one');
    expect(third).toEqual([19, 17]);
    expect(Buffer.from(ram.subarray(212, 219)).toString()).toBe('two two');
    expect([...ram.subarray(310, 317)]).toEqual(Array(7).fill(0));
    expect(
      Buffer.from(ram.subarray(317, 319)).toString() + Buffer.from(ram.subarray(320, 323)).toString(),
    ).toBe('three');
  });

  test('is full when nobody reads, and loses nothing of what it took', () => {
    const { port, fd, ram, vector } = createPort();
    ram.fill(7, 0, 60_000);
    let sent = 0;
    while (port.send(vector([0, 60_000])) === 60_000) sent++;
    const buffer = new Uint8Array(1 << 20);
    let received = 0;
    for (let rounds = 0; rounds < 100; rounds++) {
      received += Math.max(0, receiveBytes(fd, buffer, buffer.length));
      port.flush();
    }

    expect(sent).toBeGreaterThan(1);
    expect(received).toBe(sent * (4 + 60_000 - 12));
  });

  test('is followed by another in the middle of a frame, when the guest has reset itself', () => {
    const { port, fd, vector, again } = createPort();
    const all = framed('one', 'two');
    sendBytes(fd, all.subarray(0, 9));
    port.receive(vector([0, 100]));
    port.receive(vector([0, 100]));

    sendBytes(fd, all.subarray(9));

    expect(again().receive(vector([0, 100]))).toBe(15);
  });

  test('gives nothing any more after what cannot be a frame, or the end', () => {
    const { port, fd, vector } = createPort();
    sendBytes(fd, Uint8Array.of(0xff, 0, 0, 0, 1, 2, 3));

    expect(port.desynchronised).toBe(false);
    expect(port.receive(vector([0, 100]))).toBe(PORT_RESULT.wouldBlock);
    expect(port.desynchronised).toBe(true);
  });
});

test('passt may wait at its end of the stream, Volt never does at the other', () => {
  const [ours, theirs] = createHelperSocket();
  stack.use(ours);
  stack.use(theirs);
  const blocks = ({ fd }: { readonly fd: number }) => {
    const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!;
    return (parseInt(flags, 8) & O_NONBLOCK) === 0;
  };

  expect([blocks(ours), blocks(theirs)]).toEqual([false, true]);
});

test('what passt wrote last is told when it ends', () => {
  const [ours, theirs] = createHelperSocket();
  const [output, stderr] = createHelperOutput();
  for (const fd of [ours, output]) stack.use(fd);
  const events = stack.use(new EventLoop());
  const limits = { bandwidth: undefined, ops: undefined };
  const settings = { pairs: 1, hostMtu: 1500, receiveLimits: limits, transmitLimits: limits };
  const reports: string[] = [];
  servePasst(
    { link: 'passt', fd: ours.fd, outputFd: output.fd, buffer: createPasstBuffer(), settings },
    createServeContext(events, { report: (text) => void reports.push(text) }),
  );

  sendBytes(stderr.fd, Buffer.from('Outbound interface: eth0\nFailed to bind any port, exiting\n'));
  stderr.close();
  theirs.close();
  events.after(10, () => {});
  events.runOnce();

  expect(reports).toEqual([
    'passt has exited, last message: "Failed to bind any port, exiting"; the guest continues with its link down',
  ]);
});

test('a stream from passt that went astray takes the guest its link, and says so', () => {
  const [ours, theirs] = createHelperSocket();
  stack.use(ours);
  stack.use(theirs);
  const events = stack.use(new EventLoop());
  const limits = { bandwidth: undefined, ops: undefined };
  const settings = { pairs: 1, hostMtu: 1500, receiveLimits: limits, transmitLimits: limits };
  const [output] = createSocketPair(true);
  stack.use(output);
  const start = {
    link: 'passt',
    fd: ours.fd,
    outputFd: output.fd,
    buffer: createPasstBuffer(),
    settings,
  } as const;
  const told: string[] = [];
  const device = servePasst(start, createServeContext(events, { report: (text) => void told.push(text) }));
  const description = describeNet({ mac: undefined, pairs: 1, mtu: undefined, offloads: false });
  const ram = mapRam(0x40_0000);
  const bench = createDeviceBench(description, device, [F.status], { memory: ramAt(ram.bytes, ram.host) });
  const [receive] = bench.start();
  receive!.add([{ address: bench.buffers, length: 2048, writable: true }]);
  receive!.notify();

  sendBytes(theirs.fd, Uint8Array.of(0xff, 0, 0, 0));
  for (let turns = 0; turns < 10 && told.length === 0; turns++) {
    events.after(10, () => {});
    events.runOnce();
  }

  expect(told).toEqual(['passt sent an invalid frame length; the guest continues with its link down']);
});

test('without passt, --net user says in one line what to install', () => {
  const main = join(import.meta.dir, '../../../../src/cli/main.ts');
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, main, '--net', 'user'], {
    env: { PATH: '' },
  });

  expect(stderr.toString()).toContain(
    'Cannot use --net user: the program passt is not installed; install it on the PATH: apt-get install passt',
  );
  expect(stderr.toString().trim().split('\n')).toHaveLength(1);
  expect(exitCode).toBe(1);
});

describe.skipIf(Bun.which('passt') === null)('passt (needs passt)', () => {
  test('answers the guest by DHCP', async () => {
    const limits = { bandwidth: undefined, ops: undefined };
    const opened = openPasst({
      ...{
        kind: 'net',
        forwards: [],
        creates: false,
        mtu: undefined,
        id: 'net0',
        tap: undefined,
        mac: undefined,
        queues: 1,
      },
      ...{ receiveLimits: limits, transmitLimits: limits },
    });
    const events = stack.use(new EventLoop());
    const device = servePasst(opened.start, createServeContext(events));
    const description = describeNet({ mac: undefined, pairs: 1, mtu: undefined, offloads: false });
    const ram = mapRam(0x40_0000);
    const bench = createDeviceBench(description, device, [F.mrgRxbuf], {
      memory: ramAt(ram.bytes, ram.host),
    });
    const [receive, transmit] = bench.start();
    for (let i = 0; i < 64; i++) {
      const address = bench.buffers + 2048 * i;
      receive!.add([{ address, length: 2048, writable: true }]);
    }
    receive!.notify();
    const out = bench.buffers + 0x4_0000;
    const discover = dhcpDiscover();
    bench.bytes.set(discover, out + 12);

    transmit!.offer([{ address: out, length: 12 + discover.length }]);
    let used = receive!.takeUsed();
    for (let turns = 0; turns < 500 && !used; turns++) {
      events.after(10, () => {});
      events.runOnce();
      await Bun.sleep(1);
      used = receive!.takeUsed();
    }
    bench.runner.stop();
    opened.close();

    const frame = Buffer.from(bench.bytes.slice(bench.buffers + 12, bench.buffers + used!.written));
    // From UDP port 67 to 68, an answer, with the number that was asked with.
    expect([frame.readUInt16BE(34), frame.readUInt16BE(36)]).toEqual([67, 68]);
    expect([frame[42], frame.readUInt32BE(46)]).toEqual([2, 0x1234]);
    expect(used!.written).toBe(12 + frame.length);
  });
});

function dhcpDiscover(): Buffer {
  const mac = Buffer.from('020000000702', 'hex');
  const dhcp = Buffer.alloc(300);
  dhcp.set([1, 1, 6, 0, 0, 0, 0x12, 0x34]);
  dhcp.set(mac, 28);
  dhcp.set(Buffer.from('63825363350101ff', 'hex'), 236);
  // IPv4 from 0.0.0.0 to 255.255.255.255 with its checksum, UDP from 68 to 67.
  const ip = Buffer.from('4500014800010000401179a500000000ffffffff', 'hex');
  const udp = Buffer.from('0044004301340000', 'hex');
  return Buffer.concat([Buffer.alloc(6, 0xff), mac, Buffer.of(8, 0), ip, udp, dhcp]);
}
