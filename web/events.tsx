/** What happened to the guest, hangs first of all. */
import type { ControlEvent } from '../src/api/control/protocol.ts';
import { duration } from './format.ts';

export function Events({ events }: { readonly events: readonly ControlEvent[] }) {
  if (events.length === 0) return <p class="quiet">Nothing has happened since this page was opened.</p>;
  return (
    <ol class="events" reversed aria-label="Events">
      {events.toReversed().map((event, i) => (
        <li key={events.length - i} class={event.kind}>
          <time>{'atMs' in event ? duration(event.atMs) : ''}</time> <b>{event.kind}</b>{' '}
          <Content event={event} />
        </li>
      ))}
    </ol>
  );
}

function Content({ event }: { readonly event: ControlEvent }) {
  if (event.kind === 'hang') return <Hang event={event} />;
  const { kind: _kind, ...rest } = event;
  const members = Object.entries(rest).filter(([name]) => name !== 'atMs');
  return (
    <span class="code">{members.map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(', ')}</span>
  );
}

export function Hang({ event }: { readonly event: Extract<ControlEvent, { kind: 'hang' }> }) {
  return (
    <>
      No vCPU has made progress for {event.seconds} s.
      <ul>
        {event.vcpus.map(({ index, why, rip, symbol }) => (
          <li key={index}>
            vCPU {index}: {why}, RIP <span class="code">{rip}</span>{' '}
            {symbol === undefined ? null : <b class="code">{symbol}</b>}
          </li>
        ))}
      </ul>
    </>
  );
}
