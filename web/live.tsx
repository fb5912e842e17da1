/** What a running guest does: vCPUs, exits, devices, memory. */
import { Chart, type Series } from './chart.tsx';
import type { Observation } from './connection.ts';
import { bytes, count } from './format.ts';
import { Lanes } from './lanes.tsx';

const MOST_SERIES = 8;

export function Live({ observations }: { readonly observations: readonly Observation[] }) {
  const last = observations.at(-1);
  const times = observations.map(({ look }) => Math.round((look.atMs - last!.look.atMs) / 100) / 10);
  return (
    <>
      <section aria-label="vCPUs">
        <h3>vCPUs</h3>
        <Lanes observations={observations} />
      </section>
      <div class="charts">
        <Chart
          title="Exits per second, by reason"
          times={times}
          series={exitSeries(observations)}
          format={count}
        />
        {last?.look.devices.length ? (
          <Chart
            title="Device bytes per second"
            times={times}
            series={deviceSeries(observations)}
            format={bytes}
          />
        ) : null}
      </div>
      {last ? <Devices observations={observations} /> : null}
      {last ? <Memory last={last} /> : null}
    </>
  );
}

function exitSeries(observations: readonly Observation[]): Series[] {
  const totals = observations.map(({ rates }) => {
    const total: Record<string, number> = {};
    for (const { exits } of rates)
      for (const [reason, rate] of Object.entries(exits)) total[reason] = (total[reason] ?? 0) + rate;
    return total;
  });
  const reasons = [...new Set(totals.flatMap((total) => Object.keys(total)))].sort().slice(0, MOST_SERIES);
  return reasons.map((name) => ({ name, values: totals.map((total) => total[name] ?? 0) }));
}

type Devices = Observation['look']['devices'];
type Counter = 'kicks' | 'chains' | 'bytesFromGuest' | 'bytesToGuest' | 'interrupts';

function total(devices: Devices, id: string, ...counters: Counter[]): number {
  const queues = devices.find((device) => device.id === id)?.queues ?? [];
  return queues.reduce((sum, queue) => sum + counters.reduce((part, key) => part + (queue[key] ?? 0), 0), 0);
}

function rate(observations: readonly Observation[], i: number, id: string, ...counters: Counter[]): number {
  const [before, after] = [observations[i - 1], observations[i]];
  if (!before || !after || after.seconds <= 0) return 0;
  const more = total(after.look.devices, id, ...counters) - total(before.look.devices, id, ...counters);
  return Math.max(0, more) / after.seconds;
}

function deviceSeries(observations: readonly Observation[]): Series[] {
  const devices = observations.at(-1)?.look.devices ?? [];
  return devices.slice(0, MOST_SERIES).map(({ id }) => ({
    name: id,
    values: observations.map((_, i) => rate(observations, i, id, 'bytesFromGuest', 'bytesToGuest')),
  }));
}

function Devices({ observations }: { readonly observations: readonly Observation[] }) {
  const { devices } = observations.at(-1)!.look;
  const now = observations.length - 1;
  return (
    <section aria-label="Devices">
      <h3>Devices</h3>
      {devices.length === 0 ? <p class="quiet">This guest has no virtio devices.</p> : null}
      <div class="scroll">
        <table>
          {devices.length === 0 ? null : (
            <thead>
              <tr>
                <th>Device</th>
                <th>State</th>
                <th class="number">Requests/s</th>
                <th class="number">From guest/s</th>
                <th class="number">To guest/s</th>
                <th class="number">Notifications/s</th>
                <th class="number">Interrupts/s</th>
              </tr>
            </thead>
          )}
          <tbody>
            {devices.map(({ id, kind, state, failure }) => (
              <tr key={id}>
                <th scope="row">
                  {id} <small>{kind}</small>
                </th>
                <td>{failure ?? state}</td>
                <td class="number">{count(rate(observations, now, id, 'chains'))}</td>
                <td class="number">{bytes(rate(observations, now, id, 'bytesFromGuest'))}</td>
                <td class="number">{bytes(rate(observations, now, id, 'bytesToGuest'))}</td>
                <td class="number">{count(rate(observations, now, id, 'kicks'))}</td>
                <td class="number">{count(rate(observations, now, id, 'interrupts'))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Memory({ last: { look } }: { readonly last: Observation }) {
  const { memoryBytes } = look.status;
  const given = look.balloon?.inflatedBytes ?? 0;
  return (
    <section aria-label="Memory">
      <h3>Memory</h3>
      <p>
        {bytes(memoryBytes)} of RAM
        {look.balloon
          ? `, of which the balloon has returned ${bytes(given)} (wanted ${look.balloon.wantedMib} MiB)`
          : ''}
      </p>
      {look.balloon ? (
        <meter min={0} max={memoryBytes} value={memoryBytes - given} aria-label="Memory that the guest has" />
      ) : null}
    </section>
  );
}
