/** The console on one client's connection. A client that reads too slowly loses output, and is told how much. */
import { VoltError } from '../../volt-error.ts';
import type { ConsoleHub, Writer } from '../console-hub.ts';
import { formatConsole, type ConsoleMessage, type ParamsOf } from './protocol.ts';

export interface ConsoleOutput {
  send(text: string): void;
  /** Whether the client has not read what it was sent before. */
  isBehind(): boolean;
}

export class ConsoleSession implements Writer {
  readonly #hub: ConsoleHub;
  readonly #output: ConsoleOutput;
  #stopReading: (() => void) | undefined;
  #lost = 0;

  constructor(hub: ConsoleHub, output: ConsoleOutput) {
    this.#hub = hub;
    this.#output = output;
  }

  /** `reply` sends the answer, before any output. */
  start({ write, take, history }: ParamsOf<'console'>, reply: (result: object) => void): void {
    const mayWrite = (write ?? take ?? false) && this.#hub.startWriting(this, take ?? false);
    reply({ attached: true, writer: mayWrite });
    if (this.#stopReading) return;
    if (history ?? true) this.#tell({ data: toBase64(this.#hub.history()) });
    this.#stopReading = this.#hub.read((bytes) => this.#take(bytes));
  }

  /** Throws VoltError 'usage' if another client types. */
  async type(data: string): Promise<{ readonly taken: number }> {
    if (!this.#hub.mayWrite(this)) {
      throw new VoltError(
        'usage',
        'Cannot type on the console: this client is not its writer; attach with write, or with take',
      );
    }
    return { taken: await this.#hub.type(Buffer.from(data, 'base64')) };
  }

  /** The client has read everything. */
  drained(): void {
    if (this.#lost === 0) return;
    const lost = this.#lost;
    this.#lost = 0;
    this.#tell({ lost });
  }

  stop(): void {
    this.#stopReading?.();
    this.#stopReading = undefined;
    this.#hub.stopWriting(this);
  }

  get isOpen(): boolean {
    return this.#stopReading !== undefined;
  }

  changed(mayWrite: boolean): void {
    this.#tell({ writer: mayWrite });
  }

  #take(bytes: Uint8Array): void {
    if (this.#output.isBehind()) {
      this.#lost += bytes.length;
      return;
    }
    this.drained();
    this.#tell({ data: toBase64(bytes) });
  }

  #tell(message: ConsoleMessage): void {
    this.#output.send(formatConsole(message));
  }
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
