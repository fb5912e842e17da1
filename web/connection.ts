/** The one connection to `volt web`, and what it has told so far. */
import { ratesBetween, type VcpuRates } from '../src/cli/top-rates.ts';
import type { ControlEvent } from '../src/api/control/protocol.ts';
import type { GuestLook, ListedGuest, ToPage } from '../src/api/web/messages.ts';

/** A minute of looks. */
const KEPT_LOOKS = 120;
const KEPT_EVENTS = 200;
const RETRY_MS = 1000;

/** A look and the rates since the one before. */
export interface Observation {
  readonly look: GuestLook;
  readonly seconds: number;
  readonly rates: readonly VcpuRates[];
}

export interface State {
  readonly isConnected: boolean;
  /** The server refuses this page: its token is that of an earlier run. */
  readonly isRefused: boolean;
  readonly guests: readonly ListedGuest[];
  readonly selected: string | undefined;
  readonly observations: readonly Observation[];
  readonly events: readonly ControlEvent[];
}

let state: State = {
  isConnected: false,
  isRefused: false,
  guests: [],
  selected: undefined,
  observations: [],
  events: [],
};
const listeners = new Set<() => void>();
const consoleListeners = new Set<(message: ToPage) => void>();
const waiting = new Map<number, { resolve(result: unknown): void; reject(error: Error): void }>();
let nextId = 1;
let socket: WebSocket | undefined;
let hasOpened = false;

export const currentState = () => state;

export function onChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onConsole(listener: (message: ToPage) => void): () => void {
  consoleListeners.add(listener);
  return () => consoleListeners.delete(listener);
}

function change(part: Partial<State>): void {
  state = { ...state, ...part };
  listeners.forEach((listener) => listener());
}

export function connect(): void {
  const url = new URL('/live', location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = location.search;
  socket = new WebSocket(url);
  let opened = false;
  socket.onopen = () => {
    opened = hasOpened = true;
    change({ isConnected: true, isRefused: false });
    if (state.selected !== undefined) void watch(state.selected);
  };
  socket.onmessage = ({ data }) => received(JSON.parse(String(data)) as ToPage);
  socket.onclose = () => {
    for (const { reject } of waiting.values()) reject(new Error('The connection to volt web was lost'));
    waiting.clear();
    change({ isConnected: false, isRefused: hasOpened && !opened });
    setTimeout(connect, RETRY_MS);
  };
}

/** Asks volt web to do something. Rejects with its refusal. */
export function ask<T>(action: string, params: object = {}): Promise<T> {
  const id = nextId++;
  return new Promise((resolve, reject) => {
    if (socket?.readyState !== WebSocket.OPEN) {
      reject(new Error('There is no connection to volt web'));
      return;
    }
    waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
    socket.send(JSON.stringify({ id, action, ...params }));
  });
}

export function select(key: string | undefined): void {
  if (key === state.selected) return;
  change({ selected: key, observations: [], events: [] });
  void watch(key);
}

async function watch(key: string | undefined): Promise<void> {
  await ask('watch', { guest: key ?? null }).catch(() => {});
  if (key === undefined) return;
  const events = await ask<readonly ControlEvent[]>('events', { guest: key }).catch(() => []);
  if (state.selected === key) change({ events: events ?? [] });
}

/** A hidden page needs no looks, which cost the guest an exit each. */
document.addEventListener('visibilitychange', () => {
  void ask('watch', { guest: document.hidden ? null : (state.selected ?? null) }).catch(() => {});
});

function received(message: ToPage): void {
  switch (message.type) {
    case 'guests':
      change({ guests: message.guests });
      if (state.selected === undefined && message.guests[0]) select(message.guests[0].key);
      return;
    case 'look':
      if (message.guest === state.selected) observe(message);
      return;
    case 'event':
      if (message.guest === state.selected)
        change({ events: [...state.events, message.event].slice(-KEPT_EVENTS) });
      return;
    case 'answer':
      waiting.get(message.id)?.resolve(message.result);
      waiting.delete(message.id);
      return;
    case 'refusal':
      waiting.get(message.id)?.reject(new Error(message.message));
      waiting.delete(message.id);
      return;
    default:
      consoleListeners.forEach((listener) => listener(message));
  }
}

function observe(look: GuestLook): void {
  const before = state.observations.at(-1)?.look;
  // Another process, after a restart of the guest: its counters begin again.
  const isSame = before?.status.pid === look.status.pid;
  const seconds = isSame ? (look.atMs - before.atMs) / 1000 : 0;
  const rates = isSame ? ratesBetween(before, look) : ratesBetween(look, look);
  const kept = isSame ? state.observations : [];
  change({ observations: [...kept, { look, seconds, rates }].slice(-KEPT_LOOKS) });
}
