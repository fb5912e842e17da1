/**
 * One gdb: its packets in, the answers out. Commands are carried out one by one; while one is, or while gdb does not read
 * its answers, nothing more is taken from the connection.
 */
import { decodeCommand, type GdbCommand, type ThreadId } from '../../gdb/commands.ts';
import { createPacketReader, encodePacket, readPackets, type GdbInput } from '../../gdb/packets.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import { answerCommand, describeStop, threadOf, type GdbState } from './gdb-answers.ts';
import type { GuestDebugger, GuestStop } from './guest-debugger.ts';

/** The part of a stream socket that a session uses. */
export interface GdbConnection {
  /** Returns how many bytes it took. */
  write(bytes: Uint8Array): number;
  end(): unknown;
  pause(): unknown;
  resume(): unknown;
}

const ACK = Uint8Array.of(0x2b);
const NAK = Uint8Array.of(0x2d);
/** Of output that gdb does not read. Far more than it asks for at a time. */
const MAX_WAITING_BYTES = 1024 * 1024;

export class GdbSession {
  readonly #connection: GdbConnection;
  readonly #debugger: GuestDebugger;
  readonly #reader = createPacketReader();
  readonly #state: GdbState;
  readonly #output: Uint8Array[] = [];
  #waitingBytes = 0;
  #lastPacket: Uint8Array | undefined;
  #work: Promise<void> = Promise.resolve();
  #pending = 0;
  #closed = false;

  /** Stops the guest. Throws like `GuestDebugger.attach`. */
  static async attach(target: GuestDebugger, connection: GdbConnection): Promise<GdbSession> {
    const session = new GdbSession(target, connection);
    await target.attach({
      onStop: (stop) => session.#tellStop(stop),
      onEnd: (exitCode) => session.#tellEnd(exitCode),
    });
    return session;
  }

  private constructor(target: GuestDebugger, connection: GdbConnection) {
    this.#debugger = target;
    this.#connection = connection;
    this.#state = { debugger: target, features: new Set(), noAck: false, stop: undefined, thread: undefined };
  }

  received(chunk: Uint8Array): void {
    for (const input of readPackets(this.#reader, chunk)) this.#take(input);
  }

  drained(): void {
    while (this.#output.length > 0) {
      const head = this.#output[0]!;
      const written = Math.max(0, this.#connection.write(head));
      this.#waitingBytes -= written;
      if (written < head.length) {
        this.#output[0] = head.subarray(written);
        return;
      }
      this.#output.shift();
    }
  }

  /** gdb is gone: the guest runs on without its breakpoints. */
  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    void this.#work.then(() => this.#debugger.detach()).catch(() => {});
  }

  #take(input: GdbInput): void {
    switch (input.kind) {
      case 'ack':
        return;
      case 'resend':
        if (this.#lastPacket && !this.#state.noAck) this.#write(this.#lastPacket);
        return;
      case 'damaged':
        if (!this.#state.noAck) this.#write(NAK);
        return;
      case 'interrupt':
        return this.#queue(async () => {
          const stop = await this.#debugger.interrupt();
          if (stop) this.#tellStop(stop);
        });
      case 'packet':
        if (!this.#state.noAck) this.#write(ACK);
        return this.#queue(() => this.#carryOut(decodeCommand(input.payload)));
    }
  }

  #queue(action: () => Promise<void>): void {
    if (this.#pending++ === 0) this.#connection.pause();
    this.#work = this.#work
      .then(() => (this.#closed ? undefined : action()))
      .catch((error: unknown) => this.#sayFailure(error))
      .finally(() => {
        if (--this.#pending === 0 && !this.#closed) this.#connection.resume();
      });
  }

  async #carryOut(command: GdbCommand): Promise<void> {
    switch (command.kind) {
      case 'resume':
        return this.#resume(command.actions);
      case 'detach':
        await this.#debugger.detach();
        this.#send('OK');
        return this.#close();
      case 'kill':
        this.#send('OK');
        this.#close();
        return void this.#debugger.vm.stop();
      default: {
        const answer = await answerCommand(this.#state, command);
        if (answer !== undefined) this.#send(answer);
        if (command.kind === 'no-ack-mode') this.#state.noAck = true;
      }
    }
  }

  #resume(actions: Extract<GdbCommand, { kind: 'resume' }>['actions']): void {
    const goes = new Map<Vcpu, (typeof actions)[number]>();
    for (const vcpu of this.#debugger.vm.vcpus) {
      // The leftmost action that names a thread is the thread's. (vCont)
      const action = actions.find(({ thread }) => this.#names(thread, vcpu));
      if (action) goes.set(vcpu, action);
    }
    this.#state.stop = undefined;
    const stop = this.#debugger.resume(goes);
    if (stop) this.#tellStop(stop);
  }

  #names(thread: ThreadId, vcpu: Vcpu): boolean {
    if (thread === 'any') return vcpu === threadOf(this.#state);
    return thread === 'all' || thread === vcpu.index + 1;
  }

  #tellStop(stop: GuestStop): void {
    this.#state.stop = stop;
    this.#state.thread = stop.vcpu;
    this.#send(describeStop(stop, this.#state.features));
  }

  #tellEnd(exitCode: number): void {
    this.#send(`W${(exitCode & 0xff).toString(16).padStart(2, '0')}`);
    this.#close();
  }

  /** A command that the host refused: gdb shows the reason, and its command fails. (E.2, "E.errtext") */
  #sayFailure(error: unknown): void {
    this.#send(`E.${error instanceof Error ? error.message : String(error)}`);
  }

  #send(payload: string): void {
    const packet = encodePacket(payload);
    this.#lastPacket = packet;
    this.#write(packet);
  }

  #write(bytes: Uint8Array): void {
    if (this.#closed) return;
    const written = this.#output.length === 0 ? Math.max(0, this.#connection.write(bytes)) : 0;
    if (written === bytes.length) return;
    this.#output.push(bytes.subarray(written));
    this.#waitingBytes += bytes.length - written;
    if (this.#waitingBytes > MAX_WAITING_BYTES) this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#connection.end();
    this.closed();
  }
}
