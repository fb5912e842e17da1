/** The console device between a guest with any messages and a host that comes, goes, and takes what it likes. */
import {
  ConsoleDevice,
  describeConsole,
  PORT_IO,
  type ConsoleEffects,
} from '../../../src/virtio/console/device.ts';
import {
  CONSOLE_CONTROL as C,
  CONSOLE_CONTROL_QUEUE as CQ,
  CONSOLE_EVENT as EVENT,
  CONSOLE_FEATURE as F,
} from '../../../src/virtio/console/regs.ts';
import type { IoVector } from '../../../src/virtio/transport/io-vector.ts';
import { createTestClock } from '../../../test/unit/virtio/device-bench.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { guestAddressOf, movesOf, RandomDriver, type Choose } from '../random-driver.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const PORTS = [
  { name: 'first', console: true },
  { name: 'org.example.second', console: false },
  { name: 'ä'.repeat(50), console: false },
] as const;

/** Bytes of each port count, both ways: one that is lost, doubled or out of order shows. */
class FuzzHost implements ConsoleEffects {
  driver: RandomDriver | undefined;
  readonly after: ConsoleEffects['after'];
  readonly open = PORTS.map(() => false);
  readonly read_ = PORTS.map(() => 0);
  written = PORTS.map(() => 0);
  readonly #choose: Choose;

  constructor(choose: Choose, after: ConsoleEffects['after']) {
    this.#choose = choose;
    this.after = after;
  }

  read(port: number, target: IoVector): number {
    if (target.bytes === 0) throw new Error('reads into nothing');
    const kind = this.#choose(4);
    if (kind === 0) return PORT_IO.wouldBlock;
    if (kind === 1) return 0;
    const bytes = 1 + this.#choose(target.bytes);
    let done = 0;
    for (let i = 0; i < target.count; i++) {
      const at = guestAddressOf(target.hostOf(i), target.lengthOf(i));
      for (let j = 0; j < target.lengthOf(i) && done < bytes; j++, done++)
        this.driver!.bytes[at + j] = (this.read_[port]! + done) & 0xff;
    }
    this.read_[port] = this.read_[port]! + bytes;
    return bytes;
  }

  write(port: number, source: IoVector): number {
    if (source.bytes === 0) throw new Error('writes nothing');
    if (this.#choose(4) === 0) return PORT_IO.wouldBlock;
    const most = this.#choose(4) === 0 ? this.#choose(source.bytes + 1) : source.bytes;
    let done = 0;
    for (let i = 0; i < source.count; i++) {
      const at = guestAddressOf(source.hostOf(i), source.lengthOf(i));
      for (let j = 0; j < source.lengthOf(i) && done < most; j++, done++) {
        const byte = this.driver!.bytes[at + j];
        if (this.driver!.honest && byte !== ((this.written[port]! + done) & 0xff))
          throw new Error(`byte ${this.written[port]! + done} of port ${port} is ${byte}`);
      }
    }
    this.written[port] = this.written[port]! + most;
    return most;
  }

  isOpen(port: number): boolean {
    return this.open[port]!;
  }
}

export const consoleTarget: FuzzTarget = {
  name: 'console',
  what: 'a console device with three ports between a guest with any messages and a host that comes and goes',
  seeds: () => randomChoices(seededRandom(10), 64, 200),
  run: (input) => {
    const choose = choicesOf(input);
    const clock = createTestClock();
    const host = new FuzzHost(choose, clock.after);
    let device = new ConsoleDevice(PORTS, host);
    const isMove = movesOf(input);
    const description = describeConsole(PORTS.length);
    const driver = new RandomDriver(description, device, choose);
    host.driver = driver;
    const multiport = driver.features.has(F.multiport);
    let sent = PORTS.map(() => 0);
    const received = PORTS.map(() => 0);
    const events = new Set<number>();
    driver.onRestart = () => {
      sent = PORTS.map(() => 0);
      host.written = PORTS.map(() => 0);
      // What the device had read for buffers that are gone is lost.
      host.read_.forEach((count, port) => (received[port] = count));
    };
    const queueOf = (port: number) => (port === 0 ? 0 : 2 * (port + 1));
    for (let step = 0; step < 80; step++) {
      // Without its messages there is one port.
      const port = multiport ? choose(PORTS.length) : 0;
      if (isMove()) driver.move('console', (device = new ConsoleDevice(PORTS, host)));
      switch (choose(10)) {
        case 0:
          driver.offer(queueOf(port), driver.buffers(1 + choose(200), true));
          break;
        case 1:
        case 2:
          for (let left = driver.times(); left > 0; left--) {
            const bytes = Uint8Array.from({ length: 1 + choose(100) }, (_, i) => (sent[port]! + i) & 0xff);
            const buffers = driver.buffers(bytes.length, false);
            // Making room may have begun a new life.
            driver.put(
              buffers,
              bytes.map((_, i) => (sent[port]! + i) & 0xff),
            );
            if (driver.offer(queueOf(port) + 1, buffers)) sent[port] = sent[port]! + bytes.length;
          }
          break;
        case 3:
        case 4:
          for (let left = driver.times(); multiport && left > 0; left--) offerMessage(driver, choose);
          break;
        case 5:
          if (multiport) driver.offer(CQ.receive, driver.buffers(C.size + choose(100), true));
          break;
        case 6:
          host.open[port] = choose(2) === 0;
          device.portReady(port);
          break;
        case 7:
          clock.advance(choose(100));
          break;
        case 8:
          if (choose(6) === 0) driver.misbehave();
          break;
        case 9:
          if (choose(10) === 0) driver.restart();
          else driver.notify(choose(description.queueSizes.length));
      }
      PORTS.forEach((_, each) => {
        for (const { buffers, written } of driver.collect(queueOf(each))) {
          driver.get(buffers, written).forEach((byte) => {
            if (byte !== (received[each]! & 0xff))
              throw new Error(`byte ${received[each]} for port ${each} is ${byte}`);
            received[each]!++;
          });
        }
        driver.collect(queueOf(each) + 1);
      });
      if (multiport)
        for (const { buffers, written } of driver.collect(CQ.receive))
          events.add(checkMessage(driver.get(buffers, written)));
      if (multiport) driver.collect(CQ.transmit);
      driver.check();
    }
    driver.stop();
    if (clock.pending() > 0) throw new Error(`${clock.pending()} timers are left`);
    return `${driver.gaveUp} ${multiport} ${[...events].sort()} ${received.some((count) => count > 0)} ${driver.words}`;
  },
};

function offerMessage(driver: RandomDriver, choose: Choose): void {
  const bytes = new Uint8Array(choose(16) === 0 ? 1 + choose(20) : C.size);
  const view = new DataView(bytes.buffer);
  if (bytes.length >= C.size) {
    view.setUint32(C.port, choose(16) === 0 ? choose(0xffff_ffff) : choose(PORTS.length), true);
    const events = [EVENT.deviceReady, EVENT.portReady, EVENT.portOpen, EVENT.portOpen, choose(0x1_0000)];
    view.setUint16(C.event, events[choose(events.length)]!, true);
    view.setUint16(C.value, choose(8) === 0 ? choose(3) : 1, true);
  }
  const buffers = driver.buffers(bytes.length, false);
  driver.put(buffers, bytes);
  driver.offer(CQ.transmit, buffers);
}

/** Throws for a message that the specification does not know. Returns its event. */
function checkMessage(bytes: Uint8Array): number {
  if (bytes.length < C.size) throw new Error(`a message of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const [port, event] = [view.getUint32(C.port, true), view.getUint16(C.event, true)];
  if (port >= PORTS.length) throw new Error(`a message about port ${port}`);
  const known: readonly number[] = [EVENT.portAdd, EVENT.consolePort, EVENT.portOpen, EVENT.portName];
  if (!known.includes(event)) throw new Error(`a message with event ${event}`);
  return event;
}
