/** The page: guests on the left, the selected one on the right. */
import { useState } from 'preact/hooks';
import type { ListedGuest } from '../src/api/web/messages.ts';
import { Actions } from './actions.tsx';
import { Boot } from './boot.tsx';
import { select, type State } from './connection.ts';
import { Events, Hang } from './events.tsx';
import { bytes, duration, vcpus } from './format.ts';
import { Live } from './live.tsx';
import { Machine } from './machine.tsx';
import { Console } from './terminal.tsx';
import { useConnection } from './use.ts';

const TABS = ['Live', 'Console', 'Boot', 'Machine', 'Events'] as const;
type Tab = (typeof TABS)[number];

export function App() {
  const state = useConnection();
  const guest = state.guests.find(({ key }) => key === state.selected);
  return (
    <div class="page">
      <header>
        <h1>Volt</h1>
        <span class={state.isConnected ? 'quiet' : 'problem'} role="status">
          {state.isConnected
            ? 'connected'
            : state.isRefused
              ? 'refused: open the URL that volt web prints'
              : 'not connected'}
        </span>
      </header>
      <Guests state={state} />
      <main>{guest ? <Guest key={guest.key} guest={guest} state={state} /> : <Nothing state={state} />}</main>
    </div>
  );
}

function Nothing({ state }: { readonly state: State }) {
  if (!state.isConnected) return null;
  return state.guests.length === 0 ? (
    <p>
      No guest runs or is defined. Start one: <code>volt run --name web --timeline --cpus 4</code>
    </p>
  ) : (
    <p class="quiet">This guest has ended.</p>
  );
}

function Guests({ state }: { readonly state: State }) {
  return (
    <nav aria-label="Guests">
      <ul>
        {state.guests.map((guest) => (
          <li key={guest.key}>
            <button
              class="guest"
              aria-current={guest.key === state.selected ? 'true' : undefined}
              onClick={() => select(guest.key)}
            >
              <span class={`dot ${guest.state.replace(' ', '-')}`} aria-hidden="true" />
              <b>{guest.key}</b>
              <small>
                {guest.state}
                {guest.vcpus === undefined ? '' : `, ${vcpus(guest.vcpus)}`}
              </small>
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Guest({ guest, state }: { readonly guest: ListedGuest; readonly state: State }) {
  const [tab, setTab] = useState<Tab>('Live');
  const runs = guest.state === 'running' || guest.state === 'paused';
  const hang = state.events.findLast((event) => event.kind === 'hang');
  return (
    <>
      <h2>
        {guest.key} <span class={`state ${guest.state.replace(' ', '-')}`}>{guest.state}</span>
      </h2>
      <p class="quiet">{about(guest)}</p>
      <Actions guest={guest} />
      {hang?.kind === 'hang' ? (
        <div class="hang" role="alert">
          <Hang event={hang} />
        </div>
      ) : null}
      {runs ? <Tabs tab={tab} onSelect={setTab} /> : null}
      {runs ? (
        <div role="tabpanel" id="panel" aria-labelledby={`tab-${tab}`}>
          {tab === 'Live' ? <Live observations={state.observations} /> : null}
          {tab === 'Console' ? <Console guest={guest.key} pid={guest.pid} /> : null}
          {tab === 'Boot' ? <Boot guest={guest.key} pid={guest.pid} /> : null}
          {tab === 'Machine' ? <Machine guest={guest.key} pid={guest.pid} /> : null}
          {tab === 'Events' ? <Events events={state.events} /> : null}
        </div>
      ) : null}
    </>
  );
}

function about({ pid, uptimeMs, vcpus: count = 0, memoryBytes = 0, kernel }: ListedGuest): string {
  if (uptimeMs === undefined) return '';
  return `process ${pid}, up ${duration(uptimeMs)}, ${vcpus(count)}, ${bytes(memoryBytes)}, kernel ${kernel}`;
}

/** Arrow keys move between tabs. (WAI-ARIA Authoring Practices, "Tabs Pattern") */
function Tabs({ tab, onSelect }: { readonly tab: Tab; readonly onSelect: (tab: Tab) => void }) {
  const move = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length]!;
    onSelect(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <div role="tablist" aria-label="Views" onKeyDown={move}>
      {TABS.map((each) => (
        <button
          key={each}
          role="tab"
          id={`tab-${each}`}
          aria-selected={each === tab}
          aria-controls="panel"
          tabIndex={each === tab ? 0 : -1}
          onClick={() => onSelect(each)}
        >
          {each}
        </button>
      ))}
    </div>
  );
}
