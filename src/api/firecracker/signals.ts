/**
 * Signals that Firecracker handles: it writes its metrics and ends with a code for each. SIGSEGV, SIGBUS, SIGILL and SIGSYS
 * stay the runtime's and the sandbox's, because no JavaScript runs on a thread that has crashed.
 * (firecracker-microvm/firecracker, src/vmm/src/signal_handler.rs)
 */
import type { Log } from './logger.ts';
import type { Metrics } from './metrics.ts';

const ENDING = {
  SIGXFSZ: { number: 25, counter: 'sigxfsz', exitCode: 151 },
  SIGXCPU: { number: 24, counter: 'sigxcpu', exitCode: 154 },
  SIGHUP: { number: 1, counter: 'sighup', exitCode: 156 },
} as const;
const SIGPIPE = 13;

/** Call it once the log and the metrics are configured. */
export function handleSignals(log: Log, metrics: Metrics): void {
  process.on('SIGPIPE', () => {
    metrics.countSignal('sigpipe');
    log.error(`Received signal ${SIGPIPE}, code 0.`);
  });
  for (const [signal, { number, counter, exitCode }] of Object.entries(ENDING))
    process.on(signal, () => {
      metrics.countSignal(counter);
      log.error(`Shutting down VM after intercepting signal ${number}, code 0.`);
      metrics.flush();
      process.exit(exitCode);
    });
}
