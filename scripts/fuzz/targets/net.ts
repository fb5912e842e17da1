/** The network device between a driver and a port that both do as they like. */
import type { IoVector } from '../../../src/virtio/transport/io-vector.ts';
import { describeNet, NetDevice } from '../../../src/virtio/net/device.ts';
import { PORT_RESULT, type GuestOffloads, type NetPort } from '../../../src/virtio/net/port.ts';
import {
  ETHERNET_HEADER_BYTES,
  LARGEST_PACKET_BYTES,
  NET_CONFIG,
  NET_FEATURE as F,
  NET_HEADER,
} from '../../../src/virtio/net/regs.ts';
import { createTestClock } from '../../../test/unit/virtio/device-bench.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { guestAddressOf, movesOf, RandomDriver, type Choose, type UsedChain } from '../random-driver.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const MTU = 1500;
const VLAN_BYTES = 4;
const SMALLEST = NET_HEADER.size + ETHERNET_HEADER_BYTES;

/** Packets begin with a header of zeroes, and each byte behind it says which packet it is of. */
function packetOf(number: number, bytes: number): Uint8Array {
  return new Uint8Array(bytes).fill(1 + (number % 250), NET_HEADER.size);
}

class FuzzPort implements NetPort {
  /** What the driver has made available and the device has not sent, in order; undefined: nobody knows. */
  toSend: Uint8Array[] | undefined = [];
  /** Packets that the device has read and the driver not seen yet, some of which the device may have lost. */
  read: Uint8Array[] = [];
  waiting = 0;
  /** Packets may be longer than the MTU. */
  segmentation = false;
  sent = 0;
  driver: RandomDriver | undefined;
  readonly #choose: Choose;
  #number = 0;

  constructor(choose: Choose) {
    this.#choose = choose;
  }

  send(packet: IoVector): number {
    const bytes = gather(packet);
    if (bytes.length !== packet.bytes) throw new Error(`${packet.bytes} bytes in ${bytes.length}`);
    if (bytes.length < SMALLEST || bytes.length > LARGEST_PACKET_BYTES)
      throw new Error(`sends ${bytes.length} bytes`);
    if (this.#choose(8) === 0) return PORT_RESULT.wouldBlock;
    this.#check(bytes);
    this.sent++;
    return this.#choose(8) === 0 ? PORT_RESULT.dropped : bytes.length;
  }

  sendBytes(packet: Uint8Array): void {
    if (packet.length < SMALLEST) throw new Error(`sends ${packet.length} bytes of its own`);
  }

  receive(target: IoVector): number {
    gather(target);
    if (this.waiting === 0) return PORT_RESULT.wouldBlock;
    this.waiting--;
    const most = this.segmentation && this.#choose(4) === 0 ? 9000 : MTU + VLAN_BYTES;
    const whole = packetOf(this.#number++, SMALLEST + this.#choose(most + 1));
    const done = Math.min(whole.length, target.bytes);
    scatter(target, whole.subarray(0, done), this.driver!);
    this.read.push(whole);
    return done;
  }

  #check(bytes: Uint8Array): void {
    if (!this.driver?.honest || !this.toSend) return;
    let next = this.toSend.shift();
    while (next && (next.length < SMALLEST || next.length > LARGEST_PACKET_BYTES)) next = this.toSend.shift();
    if (!next || Buffer.compare(next, bytes) !== 0) throw new Error('sends what is not the next packet');
  }
}

function gather(vector: IoVector): Uint8Array {
  return Buffer.concat(
    Array.from({ length: vector.count }, (_, i) => {
      const at = guestAddressOf(vector.hostOf(i), vector.lengthOf(i));
      return bytesOf.subarray(at, at + vector.lengthOf(i));
    }),
  );
}

function scatter(vector: IoVector, bytes: Uint8Array, driver: RandomDriver): void {
  let done = 0;
  for (let i = 0; done < bytes.length; i++) {
    const piece = bytes.subarray(done, done + vector.lengthOf(i));
    driver.bytes.set(piece, guestAddressOf(vector.hostOf(i), vector.lengthOf(i)));
    done += piece.length;
  }
}

/** RAM of the driver of the moment. */
let bytesOf = new Uint8Array();

/** Packets that the driver was given: whole, and in the order in which the port gave them. */
class ReceiveModel {
  #parts: UsedChain[] = [];
  received = 0;

  take(chains: readonly UsedChain[], driver: RandomDriver, port: FuzzPort): void {
    this.#parts.push(...chains);
    while (this.#parts.length > 0) {
      const first = this.#parts[0]!;
      const header = driver.get(first.buffers, NET_HEADER.size);
      const count = header[NET_HEADER.bufferCount]! + 256 * header[NET_HEADER.bufferCount + 1]!;
      if (count < 1 || count > this.#parts.length) throw new Error(`a packet of ${count} chains`);
      const chains = this.#parts.splice(0, count);
      const packet = Buffer.concat(chains.map(({ buffers, written }) => driver.get(buffers, written)));
      packet.fill(0, 0, NET_HEADER.size);
      // Those before it were too long for the buffers, and lost.
      let sent = port.read.shift();
      while (sent && Buffer.compare(sent, packet) !== 0) sent = port.read.shift();
      if (!sent) throw new Error(`receives ${packet.length} bytes that nobody sent`);
      this.received++;
    }
  }

  forget(): void {
    this.#parts = [];
  }
}

export const netTarget: FuzzTarget = {
  name: 'net',
  what: 'a network device between a random driver and a random port: packets, limits, offloads, link, control queue',
  seeds: () => randomChoices(seededRandom(8), 64, 120),
  run: (input) => {
    const choose = choicesOf(input);
    const clock = createTestClock();
    const pairs = 1 + choose(2);
    const limit = () =>
      choose(4) === 0
        ? { size: 1 + choose(2000), burst: choose(2000), refillMs: 1 + choose(1000) }
        : undefined;
    const limits = () => ({ bandwidth: limit(), ops: limit() });
    const ports = Array.from({ length: pairs }, () => new FuzzPort(choose));
    const models = ports.map(() => new ReceiveModel());
    const setActivePorts = (count: number) => {
      if (count < 1 || count > pairs) throw new Error(`${count} active ports`);
    };
    const setOffloads = ({ tso4, tso6, ufo }: GuestOffloads) => {
      for (const port of ports) port.segmentation = tso4 || tso6 || ufo;
    };
    const options = { mac: undefined, pairs, mtu: choose(2) ? 1400 : undefined, offloads: choose(2) === 0 };
    const settings = { pairs, hostMtu: MTU, receiveLimits: limits(), transmitLimits: limits() };
    const effects = { ports, setOffloads, setActivePorts, ...clock };
    let device = new NetDevice(effects, settings);
    const isMove = movesOf(input);
    const description = describeNet(options);
    const driver = new RandomDriver(description, device, choose);
    bytesOf = driver.bytes as Uint8Array<ArrayBuffer>;
    const begin = () => {
      for (const port of ports) [port.toSend, port.read] = [[], []];
      for (const model of models) model.forget();
    };
    for (const port of ports) port.driver = driver;
    driver.onRestart = begin;
    const agreedPairs = driver.features.has(F.mq) ? pairs : 1;
    const control = description.queueSizes.length > 2 * pairs ? 2 * agreedPairs : -1;
    let [sent, link] = [0, true];
    for (let step = 0; step < 60; step++) {
      const pair = choose(agreedPairs);
      const port = ports[pair]!;
      if (isMove()) {
        device = new NetDevice(effects, settings);
        driver.move('net', device);
        device.setLink(link);
      }
      switch (choose(12)) {
        case 0:
        case 1:
          driver.offer(
            2 * pair,
            driver.buffers(NET_HEADER.size + choose(choose(3) === 0 ? 12_000 : 2000), true),
          );
          break;
        case 2:
        case 3:
        case 4:
          for (let left = driver.times(); left > 0; left--) {
            const length = choose(32) === 0 ? 1 + choose(70_000) : SMALLEST + choose(1500);
            const buffers = driver.buffers(length, false);
            const packet = packetOf(sent++, length);
            driver.put(buffers, packet);
            // Before the chain is offered, because offering it notifies the device.
            const place = port.toSend?.push(packet) ?? 0;
            if (!driver.offer(2 * pair + 1, buffers)) port.toSend?.splice(place - 1, 1);
          }
          break;
        case 5:
          port.waiting += choose(8) * driver.times();
          device.portReadable(pair);
          break;
        case 6:
          device.portWritable(pair);
          break;
        case 7:
          clock.advance(choose(200));
          break;
        case 8:
          link = choose(2) === 0;
          device.setLink(link);
          break;
        case 9:
          if (control >= 0) offerControl(driver, control, choose);
          break;
        case 10:
          if (choose(4) === 0) driver.misbehave();
          break;
        case 11:
          if (choose(8) === 0) driver.restart();
          else driver.notify(choose(description.queueSizes.length));
      }
      for (let each = 0; each < agreedPairs; each++) {
        models[each]!.take(driver.collect(2 * each), driver, ports[each]!);
        driver.collect(2 * each + 1);
      }
      if (control >= 0) checkAnswers(driver, control);
      driver.check();
    }
    if (driver.honest && (driver.readConfig(NET_CONFIG.status, 2) & 1) !== (link ? 1 : 0))
      throw new Error('the driver was told of another link');
    driver.stop();
    if (clock.pending() > 0) throw new Error(`${clock.pending()} timers are left`);
    const total = (of: (port: FuzzPort) => number) => ports.reduce((sum, port) => sum + of(port), 0);
    const received = models.reduce((sum, model) => sum + model.received, 0);
    return `${driver.gaveUp} ${total(({ sent: each }) => each) > 4} ${Math.min(received, 4)} ${driver.words}`;
  },
};

/** Class, command and data, of which some make sense. */
function offerControl(driver: RandomDriver, queue: number, choose: Choose): void {
  const bytes = Uint8Array.from([
    [4, 5, 0, choose(256)][choose(4)]!,
    choose(2),
    ...Array.from({ length: choose(10) }, () => choose(choose(2) === 0 ? 4 : 256)),
  ]);
  const command = driver.buffers(bytes.length, false);
  driver.put(command, bytes);
  driver.offer(queue, [...command, { address: driver.allocate(1), length: 1, writable: true }]);
}

function checkAnswers(driver: RandomDriver, queue: number): void {
  for (const { buffers, written } of driver.collect(queue)) {
    const answer = driver.get(buffers.slice(-1), 1)[0]!;
    if (written !== 1 || answer > 1) throw new Error(`the answer to a command is ${answer}`);
  }
}
