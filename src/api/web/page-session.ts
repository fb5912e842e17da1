/** One open page: what it asks for, and the console that it is attached to. */
import * as v from 'valibot';
import { VoltError } from '../../volt-error.ts';
import { callOnce, connectControl, type ControlClient } from '../control/client.ts';
import { MAX_INPUT_BYTES, type ConsoleMessage } from '../control/protocol.ts';
import { saveGuest } from '../control/save-guest.ts';
import { parseRunningConfig } from '../guests/guest-config.ts';
import { startGuest } from '../guests/start-guest.ts';
import { inspectMachine } from '../inspect.ts';
import type { GuestFeed } from './guest-feed.ts';
import type { ToPage } from './messages.ts';

const MAX_PATH_CHARACTERS = 4095;
const MAX_KEY_CHARACTERS = 64;
/** Longer than a guest may take to eject CPUs, or a large one to be saved. */
const LONG_CALL_MS = 600_000;

const guest = v.pipe(v.string(), v.nonEmpty(), v.maxLength(MAX_KEY_CHARACTERS));
const id = v.pipe(v.number(), v.integer(), v.minValue(0));
const plain = <const A extends string>(action: A) => v.strictObject({ id, guest, action: v.literal(action) });

/** Everything that a page may ask for. */
const RequestSchema = v.variant('action', [
  v.strictObject({ id, action: v.literal('watch'), guest: v.nullable(guest) }),
  plain('pause'),
  plain('resume'),
  plain('stop'),
  plain('start'),
  plain('powerdown'),
  plain('nmi'),
  plain('inspection'),
  plain('timeline'),
  plain('events'),
  v.strictObject({
    id,
    guest,
    action: v.literal('cpus'),
    count: v.pipe(v.number(), v.integer(), v.minValue(1)),
  }),
  v.strictObject({
    ...{ id, guest, action: v.literal('snapshot') },
    directory: v.pipe(v.string(), v.startsWith('/'), v.maxLength(MAX_PATH_CHARACTERS)),
  }),
  v.strictObject({ id, guest, action: v.literal('console'), take: v.boolean() }),
  v.strictObject({
    ...{ id, guest, action: v.literal('type') },
    data: v.pipe(v.string(), v.nonEmpty(), v.maxLength(MAX_INPUT_BYTES), v.base64()),
  }),
]);

type Request = v.InferOutput<typeof RequestSchema>;

export interface PageConnection {
  send(message: ToPage): void;
  /** Whether the page has not read what it was sent before. */
  isBehind(): boolean;
}

export class PageSession implements Disposable {
  /** The guest whose looks and events this page gets. */
  watched: string | undefined;
  readonly #connection: PageConnection;
  readonly #feed: GuestFeed;
  readonly #ownCommand: readonly string[];
  #console: { readonly guest: string; readonly client: ControlClient } | undefined;
  #lost = 0;

  constructor(connection: PageConnection, feed: GuestFeed, ownCommand: readonly string[]) {
    this.#connection = connection;
    this.#feed = feed;
    this.#ownCommand = ownCommand;
  }

  async received(text: string): Promise<void> {
    const parsed = v.safeParse(RequestSchema, parseJson(text));
    if (!parsed.success) return;
    const { id } = parsed.output;
    try {
      const result = (await this.#do(parsed.output)) ?? null;
      this.#connection.send({ type: 'answer', id, result });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#connection.send({ type: 'refusal', id, message: message.replace(/\s*\n\s*/g, ' ') });
    }
  }

  [Symbol.dispose](): void {
    this.#console?.client.close();
    this.#console = undefined;
  }

  async #do(request: Request): Promise<unknown> {
    switch (request.action) {
      case 'watch':
        this.watched = request.guest ?? undefined;
        return undefined;
      case 'start':
        await startGuest(request.guest, this.#ownCommand);
        return this.#feed.refresh();
      case 'events':
        return this.#feed.eventsOf(request.guest);
      case 'inspection':
        return inspectMachine(await parseRunningConfig(this.#path(request.guest))).inspection;
      case 'timeline':
        return callOnce(this.#path(request.guest), 'timeline', {});
      case 'snapshot': {
        using client = await connectControl(this.#path(request.guest));
        return await saveGuest(client, request.directory);
      }
      case 'cpus':
        return callOnce(this.#path(request.guest), 'cpus', { count: request.count }, LONG_CALL_MS);
      case 'console':
        return this.#attach(request.guest, request.take);
      case 'type':
        if (this.#console?.guest !== request.guest)
          throw new VoltError('usage', 'Cannot type: the console is closed');
        return this.#console.client.call('console-input', { data: request.data });
      default:
        await callOnce(this.#path(request.guest), request.action, {});
        return this.#feed.refresh();
    }
  }

  /** The console stays open while the page shows the guest. */
  async #attach(guest: string, take: boolean): Promise<unknown> {
    this[Symbol.dispose]();
    const client = await connectControl(this.#path(guest));
    this.#console = { guest, client };
    return client.attachConsole(take ? { take } : { write: true }, (message) => this.#output(guest, message));
  }

  #output(guest: string, message: ConsoleMessage): void {
    if ('writer' in message) this.#connection.send({ type: 'writer', guest, mayWrite: message.writer });
    else if ('lost' in message) this.#lost += message.lost;
    else if (this.#connection.isBehind()) this.#lost += Buffer.byteLength(message.data, 'base64');
    else {
      if (this.#lost > 0) this.#connection.send({ type: 'lost', guest, bytes: this.#lost });
      this.#lost = 0;
      this.#connection.send({ type: 'output', guest, data: message.data });
    }
  }

  #path(key: string): string {
    const path = this.#feed.pathOf(key);
    if (path !== undefined) return path;
    throw new VoltError('host', `Cannot find guest ${key}: it does not run`);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
