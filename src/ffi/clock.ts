/** Clocks of the kernel that the runtime does not show. */
import { addressOf, checked, libc } from './libc.ts';

const SYS_CLOCK_GETTIME = 228;
const CLOCK_MONOTONIC = 1;

/** Microseconds of CLOCK_MONOTONIC, which all processes of a host share. */
export function monotonicMicroseconds(): number {
  const time = new BigInt64Array(2);
  const bytes = new Uint8Array(time.buffer);
  checked(
    Number(libc.syscall(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, addressOf(bytes), 0, 0, 0, 0)),
    'clock_gettime',
  );
  return Number(time[0]! * 1_000_000n + time[1]! / 1000n);
}
