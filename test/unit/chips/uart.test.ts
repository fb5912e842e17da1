import { describe, expect, test } from 'bun:test';
import {
  resetUart,
  UART_WORD,
  uartRead,
  uartReceive,
  uartWrite,
  type Uart,
} from '../../../src/chips/uart.ts';

const REG = { data: 0, ier: 1, iir: 2, fcr: 2, lcr: 3, mcr: 4, lsr: 5, msr: 6, scratch: 7 } as const;
const IIR = { none: 1, transmitter: 2, received: 4, fifos: 0xc0 } as const;
const IER = { received: 1, transmitter: 2 } as const;
const DLAB = 0x80;

/** A port on which everything that it does to the outside is recorded. */
function createPort(ringBytes = 16) {
  const words = new Int32Array(UART_WORD.size);
  const sent: number[] = [];
  const levels: number[] = [];
  const uart: Uart = {
    words,
    received: new Uint8Array(ringBytes),
    outputs: { transmit: (byte) => sent.push(byte), setInterrupt: (level) => levels.push(level) },
  };
  resetUart(words);
  return {
    words,
    sent,
    /** Every change of the interrupt line. */
    levels,
    read: (register: number) => uartRead(uart, register),
    write: (register: number, value: number) => uartWrite(uart, register, value),
    receive: (...bytes: number[]) => uartReceive(uart, Uint8Array.from(bytes)),
  };
}

describe('after reset', () => {
  test('registers read as firmware leaves them', () => {
    const port = createPort();
    const registers = [REG.ier, REG.iir, REG.lcr, REG.mcr, REG.lsr, REG.msr, REG.scratch].map(port.read);
    expect(registers).toEqual([0, IIR.none, 0, 0x08, 0x60, 0xb0, 0]);
  });

  test('the divisor is that of 115200 baud', () => {
    const port = createPort();
    port.write(REG.lcr, DLAB);
    expect([port.read(REG.data), port.read(REG.ier)]).toEqual([1, 0]);
  });
});

describe('DLAB', () => {
  test('turns the first two registers into the divisor and back', () => {
    const port = createPort();
    port.write(REG.ier, 0x05);
    port.write(REG.lcr, DLAB | 0x03);
    port.write(REG.data, 0x0c);
    port.write(REG.ier, 0x02);
    const divisor = [port.read(REG.data), port.read(REG.ier)];
    port.write(REG.lcr, 0x03);
    expect(divisor).toEqual([0x0c, 0x02]);
    expect(port.read(REG.ier)).toBe(0x05);
    expect(port.sent).toEqual([]);
  });

  test('keeps received bytes and interrupts as they are', () => {
    const port = createPort();
    port.write(REG.ier, IER.received);
    port.receive(0x41);
    port.write(REG.lcr, DLAB);
    port.read(REG.data);
    port.write(REG.lcr, 0);
    expect(port.read(REG.data)).toBe(0x41);
  });
});

describe('transmitting', () => {
  test('sends each byte at once, and the transmitter is always empty', () => {
    const port = createPort();
    port.write(REG.data, 0x48);
    port.write(REG.data, 0x69);
    expect(port.sent).toEqual([0x48, 0x69]);
    expect(port.read(REG.lsr)).toBe(0x60);
  });

  test('raises an interrupt where it is enabled, and reading IIR takes it back', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    port.read(REG.iir);
    port.levels.length = 0;

    port.write(REG.data, 0x48);
    const first = port.read(REG.iir);
    const second = port.read(REG.iir);

    expect([first, second]).toEqual([IIR.transmitter, IIR.none]);
    expect(port.levels).toEqual([1, 0]);
  });

  test('makes one edge for each byte whose interrupt was read', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    port.read(REG.iir);
    port.levels.length = 0;
    for (const byte of [1, 2, 3]) {
      port.write(REG.data, byte);
      port.read(REG.iir);
    }
    expect(port.levels).toEqual([1, 0, 1, 0, 1, 0]);
  });

  test('makes one edge for each byte also for a handler that never reads IIR', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    port.levels.length = 0;
    for (const byte of [1, 2, 3]) port.write(REG.data, byte);
    expect(port.levels).toEqual([0, 1, 0, 1, 0, 1]);
  });

  test('makes one edge for all bytes of a FIFO', () => {
    const port = createPort();
    port.write(REG.fcr, 1);
    port.write(REG.ier, IER.transmitter);
    port.read(REG.iir);
    port.levels.length = 0;
    for (const byte of [1, 2, 3]) port.write(REG.data, byte);
    expect(port.levels).toEqual([1]);
  });

  test('raises nothing where it is not enabled', () => {
    const port = createPort();
    port.write(REG.data, 0x48);
    expect(port.levels).toEqual([]);
    expect(port.read(REG.iir)).toBe(IIR.none);
  });
});

describe('enabling the transmitter interrupt', () => {
  test('raises it at once', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    expect(port.levels).toEqual([1]);
    expect(port.read(REG.iir)).toBe(IIR.transmitter);
  });

  test('again, without turning it off, does not', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    port.read(REG.iir);
    port.write(REG.ier, IER.transmitter | IER.received);
    expect(port.read(REG.iir)).toBe(IIR.none);
  });

  test('again, after turning it off, does: Linux tests chips for a lost THRE this way', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    const first = port.read(REG.iir);
    port.write(REG.ier, 0);
    port.write(REG.ier, IER.transmitter);
    const second = port.read(REG.iir);
    expect([first, second]).toEqual([IIR.transmitter, IIR.transmitter]);
  });

  test('off takes the line down', () => {
    const port = createPort();
    port.write(REG.ier, IER.transmitter);
    port.write(REG.ier, 0);
    expect(port.levels).toEqual([1, 0]);
    expect(port.read(REG.iir)).toBe(IIR.none);
  });
});

describe('receiving', () => {
  test('gives bytes in order, with "data ready" as long as there is one', () => {
    const port = createPort();
    expect(port.receive(0x61, 0x62)).toBe(2);
    const seen = [port.read(REG.lsr), port.read(REG.data), port.read(REG.lsr), port.read(REG.data)];
    expect(seen).toEqual([0x61, 0x61, 0x61, 0x62]);
    expect(port.read(REG.lsr)).toBe(0x60);
  });

  test('an empty port reads as 0', () => {
    expect(createPort().read(REG.data)).toBe(0);
  });

  test('holds the interrupt until the last byte is read', () => {
    const port = createPort();
    port.write(REG.ier, IER.received);
    port.receive(1, 2);
    port.read(REG.data);
    const between = [...port.levels];
    port.read(REG.data);
    expect(between).toEqual([1]);
    expect(port.levels).toEqual([1, 0]);
  });

  test('before the interrupt is enabled raises it then', () => {
    const port = createPort();
    port.receive(1);
    port.write(REG.ier, IER.received);
    expect(port.levels).toEqual([1]);
  });

  test('takes no more than the ring holds', () => {
    const port = createPort(4);
    expect(port.receive(1, 2, 3)).toBe(3);
    expect(port.receive(4, 5, 6)).toBe(1);
    expect(port.receive(7)).toBe(0);
    expect(Array.from({ length: 4 }, () => port.read(REG.data))).toEqual([1, 2, 3, 4]);
    expect(port.receive(8)).toBe(1);
    expect(port.read(REG.data)).toBe(8);
  });

  test('goes on where the counters pass 2^31', () => {
    const port = createPort(4);
    port.words[UART_WORD.receiveHead] = 0x7fff_fffe;
    port.words[UART_WORD.receiveTail] = 0x7fff_fffe;
    expect(port.receive(1, 2, 3, 4, 5)).toBe(4);
    expect(Array.from({ length: 4 }, () => port.read(REG.data))).toEqual([1, 2, 3, 4]);
    expect(port.read(REG.lsr)).toBe(0x60);
  });

  test('is undone by FCR, which clears the receiver and the line', () => {
    const port = createPort();
    port.write(REG.ier, IER.received);
    port.receive(1, 2);
    port.write(REG.fcr, 0x03);
    expect(port.read(REG.lsr)).toBe(0x60);
    expect(port.levels).toEqual([1, 0]);
  });
});

describe('IIR', () => {
  test('tells a received byte before an empty transmitter', () => {
    const port = createPort();
    port.write(REG.ier, IER.received | IER.transmitter);
    port.receive(1);
    const withByte = [port.read(REG.iir), port.read(REG.iir)];
    port.read(REG.data);
    const without = [port.read(REG.iir), port.read(REG.iir)];
    expect(withByte).toEqual([IIR.received, IIR.received]);
    expect(without).toEqual([IIR.transmitter, IIR.none]);
  });

  test('shows both FIFO bits once FCR enables them', () => {
    const port = createPort();
    port.write(REG.fcr, 0x01);
    expect(port.read(REG.iir)).toBe(IIR.fifos | IIR.none);
    port.write(REG.fcr, 0x00);
    expect(port.read(REG.iir)).toBe(IIR.none);
  });
});

describe('loopback', () => {
  test.each([
    [0x10, 0x00],
    [0x11, 0x20],
    [0x12, 0x10],
    [0x14, 0x40],
    [0x18, 0x80],
    [0x1f, 0xf0],
  ])('feeds modem control %p back as modem status %p', (control, status) => {
    const port = createPort();
    port.write(REG.mcr, control);
    expect(port.read(REG.msr) & 0xf0).toBe(status);
  });

  test('gives sent bytes back and sends none', () => {
    const port = createPort();
    port.write(REG.mcr, 0x10);
    port.write(REG.data, 0x55);
    expect(port.read(REG.lsr)).toBe(0x61);
    expect(port.read(REG.data)).toBe(0x55);
    expect(port.sent).toEqual([]);
  });

  test('drops what does not fit', () => {
    const port = createPort(2);
    port.write(REG.mcr, 0x10);
    for (const byte of [1, 2, 3]) port.write(REG.data, byte);
    expect([port.read(REG.data), port.read(REG.data), port.read(REG.lsr)]).toEqual([1, 2, 0x60]);
  });
});

describe("Linux's autoconfig (drivers/tty/serial/8250/8250_port.c)", () => {
  test('finds a chip: IER holds its four bits and no other', () => {
    const port = createPort();
    port.write(REG.ier, 0x00);
    const none = port.read(REG.ier);
    port.write(REG.ier, 0xff);
    expect([none, port.read(REG.ier)]).toEqual([0x00, 0x0f]);
  });

  test('finds loopback: OUT2 and RTS come back as carrier and CTS', () => {
    const port = createPort();
    port.write(REG.mcr, 0x1a);
    expect(port.read(REG.msr) & 0xf0).toBe(0x90);
  });

  test('finds a 16550A by its FIFO bits', () => {
    const port = createPort();
    port.write(REG.lcr, 0);
    port.write(REG.fcr, 0x01);
    expect(port.read(REG.iir) >> 6).toBe(3);
  });

  test('finds no enhanced features register, no second bank and no UUE bit', () => {
    const port = createPort();
    port.write(REG.fcr, 0x01);
    port.write(REG.lcr, 0x80);
    const efr = port.read(REG.iir);
    port.write(REG.lcr, 0xe0);
    const exchangeable = port.read(REG.iir) & 0x10;
    port.write(REG.lcr, 0);
    port.write(REG.ier, 0x40);
    expect(efr).not.toBe(0);
    expect(exchangeable).toBe(0);
    expect(port.read(REG.ier) & 0x40).toBe(0);
  });

  test('counts a FIFO that is not 64 bytes, so that it is no U6_16550A', () => {
    const port = createPort(4096);
    port.write(REG.fcr, 0x07);
    port.write(REG.mcr, 0x10);
    for (let i = 0; i < 256; i++) port.write(REG.data, i);
    let count = 0;
    for (; count < 256 && port.read(REG.lsr) & 1; count++) port.read(REG.data);
    expect(count).toBe(256);
    expect(port.sent).toEqual([]);
  });

  test('finds the scratch register', () => {
    const port = createPort();
    port.write(REG.scratch, 0xa5);
    expect(port.read(REG.scratch)).toBe(0xa5);
  });
});

test('status registers swallow writes', () => {
  const port = createPort();
  port.write(REG.lsr, 0xff);
  port.write(REG.msr, 0xff);
  expect([port.read(REG.lsr), port.read(REG.msr)]).toEqual([0x60, 0xb0]);
});
