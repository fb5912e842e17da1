/**
 * Runs a program as systemd's unit does, in the respect that counts here: without capabilities, and with capset(2), which
 * could only take some away, answered by EPERM. Usage: bun without-capset.ts PROGRAM [ARG...]
 */
import { replaceProcess } from '../../src/ffi/jail.ts';
import { installFilter, NUMBER, placeFilter, PR_SET_NO_NEW_PRIVS } from '../../src/ffi/sandbox.ts';
import { addressOf, libc } from '../../src/ffi/libc.ts';
import { OPCODE, SECCOMP_DATA, VERDICT } from '../../src/sandbox/filter.ts';

const EPERM = 1;
/** _LINUX_CAPABILITY_VERSION_3 */
const header = new Uint8Array(Uint32Array.of(0x2008_0522, 0).buffer);
const none = new Uint8Array(24);

libc.syscall(NUMBER.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
libc.syscall(NUMBER.capset, addressOf(header), addressOf(none), 0, 0, 0, 0);
// Words of struct sock_filter: code and jumps, k.
const program = Uint32Array.of(
  ...[OPCODE.load, SECCOMP_DATA.number],
  ...[OPCODE.jumpEqual | (1 << 24), NUMBER.capset],
  ...[OPCODE.ret, VERDICT.errno | EPERM],
  ...[OPCODE.ret, VERDICT.allow],
);
installFilter(placeFilter(new Uint8Array(program.buffer)), 'this');
const argv = process.argv.slice(2);
const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
replaceProcess(argv[0]!, argv, environment);
