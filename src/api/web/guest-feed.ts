/** The guests of this host as the page shows them: who runs, what happens to them, and a look at one every moment. */
import { connectControl, type ControlClient } from '../control/client.ts';
import { listSockets, type GuestSocket } from '../control/directory.ts';
import type { ControlEvent } from '../control/protocol.ts';
import { listDefinitions } from '../guests/definitions.ts';
import type { GuestLook, ListedGuest, ToPage } from './messages.ts';

const LIST_MS = 1000;
const LOOK_MS = 500;
/** Events that a page gets of the time before it was opened. */
const KEPT_EVENTS = 200;

interface Link {
  readonly pid: number;
  readonly path: string;
  readonly client: ControlClient;
  readonly events: ControlEvent[];
  hasBalloon: boolean;
}

export class GuestFeed implements Disposable {
  readonly #tell: (message: ToPage) => void;
  readonly #watchedBy: () => ReadonlySet<string>;
  readonly #links = new Map<string, Link>();
  #guests: readonly ListedGuest[] = [];
  #isOver = false;

  /** `tell` sends to all pages, looks and events to those that watch the guest. */
  constructor(tell: (message: ToPage) => void, watched: () => ReadonlySet<string>) {
    this.#tell = tell;
    this.#watchedBy = watched;
    void this.#repeat(LIST_MS, () => this.refresh());
    void this.#repeat(LOOK_MS, () => this.#lookAtAll());
  }

  get guests(): readonly ListedGuest[] {
    return this.#guests;
  }

  eventsOf(key: string): readonly ControlEvent[] {
    return this.#links.get(key)?.events ?? [];
  }

  /** Path of the control socket of a running guest, as this process has found it. */
  pathOf(key: string): string | undefined {
    return this.#links.get(key)?.path;
  }

  /** Lists the guests anew, and tells the pages. */
  async refresh(): Promise<void> {
    const running = await listSockets();
    const definitions = new Set(listDefinitions().map(({ name }) => name));
    await Promise.all(running.map((guest) => this.#connect(guest)));
    const keys = new Set(running.map(keyOf));
    for (const [key, link] of this.#links) if (!keys.has(key)) this.#drop(key, link);
    const stopped = [...definitions].filter((name) => !keys.has(name));
    this.#guests = [
      ...running.map((guest) => describe(guest, definitions)),
      ...stopped.map((name) => ({ key: name, name, state: 'stopped', isDefined: true })),
    ];
    this.#tell({ type: 'guests', guests: this.#guests });
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const [key, link] of this.#links) this.#drop(key, link);
  }

  async #connect(guest: GuestSocket): Promise<void> {
    const key = keyOf(guest);
    const before = this.#links.get(key);
    if (before?.pid === guest.pid) return;
    if (before) this.#drop(key, before);
    if (!guest.status) return;
    try {
      const client = await connectControl(guest.path);
      const link: Link = { pid: guest.pid, path: guest.path, client, events: [], hasBalloon: true };
      this.#links.set(key, link);
      void this.#follow(key, link);
    } catch {
      // It has ended since, or is busy: the next list tells.
    }
  }

  async #follow(key: string, link: Link): Promise<void> {
    try {
      for await (const event of link.client.events()) {
        link.events.push(event);
        if (link.events.length > KEPT_EVENTS) link.events.shift();
        this.#tell({ type: 'event', guest: key, event });
      }
    } catch {
      // The connection has failed; the next list tells whether the guest has ended.
    }
    if (this.#links.get(key) === link) this.#drop(key, link);
  }

  #drop(key: string, link: Link): void {
    this.#links.delete(key);
    link.client.close();
  }

  async #lookAtAll(): Promise<void> {
    await Promise.all([...this.#watchedBy()].map((key) => this.#lookAt(key)));
  }

  async #lookAt(key: string): Promise<void> {
    const link = this.#links.get(key);
    if (!link) return;
    try {
      const { client } = link;
      const [status, vcpus, devices] = await Promise.all([
        client.call('status', {}),
        client.call('vcpus', {}),
        client.call('devices', {}),
      ]);
      const atMs = performance.now();
      link.hasBalloon &&= devices.some(({ kind }) => kind === 'balloon');
      const balloon = link.hasBalloon ? await client.call('balloon', {}) : undefined;
      const look: GuestLook = {
        ...{ type: 'look', guest: key, atMs, status, vcpus, devices },
        ...(balloon === undefined ? {} : { balloon }),
      };
      this.#tell(look);
    } catch {
      // It ends or does not answer: the list says which.
    }
  }

  async #repeat(everyMs: number, work: () => Promise<void>): Promise<void> {
    while (!this.#isOver) {
      await work().catch(() => {});
      await Bun.sleep(everyMs);
    }
  }
}

function keyOf({ name, pid }: GuestSocket): string {
  return name ?? String(pid);
}

function describe(guest: GuestSocket, definitions: ReadonlySet<string>): ListedGuest {
  const { name, pid, status } = guest;
  const common = {
    key: keyOf(guest),
    pid,
    ...(name === undefined ? {} : { name }),
    isDefined: name !== undefined && definitions.has(name),
  };
  if (!status) return { ...common, state: 'not answering' };
  const { state, vcpus, maxVcpus, memoryBytes, uptimeMs, kernel } = status;
  return { ...common, state, vcpus, maxVcpus, memoryBytes, uptimeMs, kernel };
}
