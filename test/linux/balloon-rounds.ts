/**
 * Beside a guest with a balloon: lets it inflate and deflate, and prints what came of it as JSON.
 * Usage: balloon-rounds.ts CONTROL VOLT ARGUMENT…
 */
import { readFileSync } from 'node:fs';
import { connectControl } from '../../src/api/index.ts';
import { poll, startGuest } from './guest-session.ts';

const [path, ...argv] = process.argv.slice(2) as [string, ...string[]];
const guest = startGuest(argv);
await guest.until('VOLT-GUEST filled');
const client = await connectControl(path);
const balloon = (mib?: number) => client.call('balloon', mib === undefined ? {} : { mib });
const residentKib = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${guest.pid}/status`, 'utf8'))![1]);

const full = residentKib();
await guest.until('VOLT-GUEST emptied');
// Linux reports free pages some seconds after they became free.
const reported = await poll(balloon, ({ reportedBytes }) => reportedBytes > 100 * 2 ** 20);
const emptied = residentKib();
await balloon(128);
const inflated = await poll(balloon, ({ actualMib }) => actualMib === 128);
await guest.until('VOLT-GUEST inflated');
await balloon(0);
const deflated = await poll(balloon, ({ actualMib }) => actualMib === 0);
const refused = await balloon(10_000).then(
  () => 'nothing',
  (error: Error) => error.message,
);
const exitCode = await guest.ended;
process.stdout.write(
  `\n${JSON.stringify({
    releasedMib: Math.floor((full - emptied) / 1024),
    reportedMib: Math.floor(reported.reportedBytes / 2 ** 20),
    inflatedMib: Math.floor(inflated.inflatedBytes / 2 ** 20),
    totalMib: Math.floor((inflated.stats['total_memory'] ?? 0) / 2 ** 20),
    wantedMib: deflated.wantedMib,
    refused,
    exitCode,
  })}\n`,
);
process.exit(0);
