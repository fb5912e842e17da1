/** `volt top`: the activity of a running guest's vCPUs, refreshed periodically. */
import {
  connectControl,
  EXIT_CODE,
  openSymbols,
  stdoutIsTerminal,
  VoltError,
  type ControlClient,
  type ControlResult,
} from '../api/index.ts';
import { withSymbols } from './ctl-format.ts';
import { guestSocket, onlyGuestSocket } from './find-guest.ts';
import { createLog } from './log.ts';
import { writeLine } from './output.ts';
import { ratesBetween, type Look, type VcpuRates } from './top-rates.ts';
import { openScreen } from './top-screen.ts';
import { formatTop } from './top-table.ts';

export interface TopFlags {
  /** Seconds. */
  readonly interval: number;
  readonly once?: true | undefined;
  readonly json?: true | undefined;
  readonly symbols?: string | undefined;
  /** false: leave vCPUs in the guest. */
  readonly sample: boolean;
}

interface Observation {
  readonly status: ControlResult<'status'>;
  readonly seconds: number;
  readonly rates: readonly VcpuRates[];
}

/** Returns the process's exit code. */
export async function top(guest: string | undefined, flags: TopFlags): Promise<number> {
  const symbolOf = flags.symbols === undefined ? undefined : openSymbols(flags.symbols);
  const path = guest === undefined ? await onlyGuestSocket('top') : guestSocket(guest);
  using client = await connectControl(path);
  let before = await look(client, flags, symbolOf);
  const observe = async (): Promise<Observation> => {
    const status = await client.call('status', {});
    const after = await look(client, flags, symbolOf);
    const seconds = (after.atMs - before.atMs) / 1000;
    const rates = ratesBetween(before, after);
    before = after;
    return { status, seconds, rates };
  };
  const live = !flags.once && !flags.json && stdoutIsTerminal();
  try {
    return live ? await showLive(observe, flags.interval) : await printEach(observe, flags);
  } catch (error) {
    // It has answered before, so it has ended since.
    if (!(error instanceof VoltError) || error.code !== 'host' || flags.once) throw error;
    createLog('error').always('the guest has ended');
    return EXIT_CODE.ok;
  }
}

async function look(
  client: ControlClient,
  { sample }: TopFlags,
  symbolOf: ((address: bigint) => string | undefined) | undefined,
): Promise<Look> {
  const vcpus = await client.call('vcpus', sample ? {} : { sample });
  return { vcpus: withSymbols(vcpus, symbolOf), atMs: performance.now() };
}

/** Prints a table, or a line of JSON, per interval until the reader closes the pipe. */
async function printEach(observe: () => Promise<Observation>, flags: TopFlags): Promise<number> {
  for (let first = true; ; first = false) {
    await Bun.sleep(flags.interval * 1000);
    const { status, seconds, rates } = await observe();
    const lines = flags.json
      ? [JSON.stringify({ ...status, seconds, vcpus: rates })]
      : formatTop(status, rates, { width: Infinity, colour: false });
    if (!flags.json && !first) lines.unshift('');
    if (!writeLine(lines.join('\n')) || flags.once) return EXIT_CODE.ok;
  }
}

async function showLive(observe: () => Promise<Observation>, interval: number): Promise<number> {
  const colour = !process.env['NO_COLOR'];
  let last: Observation | undefined;
  let wake = () => {};
  const draw = () => {
    const { columns, rows } = screen.size;
    const lines = last ? formatTop(last.status, last.rates, { width: columns, colour }) : ['Sampling…'];
    const hidden = lines.length - rows;
    screen.draw(hidden > 0 ? [...lines.slice(0, rows - 1), `… ${hidden + 1} more`] : lines);
  };
  using screen = openScreen((key) => key === ' ' && wake(), draw);
  draw();
  for (;;) {
    const { promise: woken, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    const code = await Promise.race([screen.left, Promise.race([Bun.sleep(interval * 1000), woken])]);
    if (code !== undefined) return code;
    const seen = await Promise.race([screen.left, observe()]);
    if (typeof seen === 'number') return seen;
    last = seen;
    draw();
  }
}
