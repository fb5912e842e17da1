/**
 * Debian's gdb on guests with real vCPUs, in the sandbox. Where KVM emulates ring 0 it knows no data breakpoints, so
 * watchpoints are tested on Linux (test/linux/gdb.test.ts).
 */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { readdirSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { MIB } from '../../src/machine/address.ts';
import { PORT } from '../../src/machine/ports.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { hasGdb, runGdb, SMP_ELF, WaitingGuest } from './gdb-run.ts';
import { asm, buildPvhElf, LOAD_ADDRESS, program } from './tiny-guest.ts';
import { waitUntil } from './guest-run.ts';
import { BeatingVolt } from './volt-child.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsGdb = testNeeding('/dev/kvm and gdb', !kvmOpens || !hasGdb);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

describe('gdb on the embedded kernel', () => {
  needsGdb('stops it at its first instruction, at functions, and lets it run to its end', async () => {
    await using guest = await new WaitingGuest().waiting();

    const output = await runGdb([
      `file ${SMP_ELF}`,
      `target remote ${guest.gdb}`,
      'info threads',
      'output $cr0',
      'break startup_prepare',
      'continue',
      'backtrace',
      'print/x $efer',
      'x/2xb startup_prepare',
      'stepi',
      'print $pc',
      'monitor where',
      'monitor translate 0x100020',
      'delete',
      'detach',
    ]);
    const exitCode = await guest.exited;

    expect(output).toContain('0x0000000000100020 in start ()');
    expect(output).toMatch(/Thread 1 "vCPU 0" \(BSP, APIC id 0, running\)/);
    expect(output).toMatch(/Thread 4 "vCPU 3" \(AP, APIC id 3, waiting-for-sipi\)/);
    expect(output).toContain('[ PE ET ]');
    expect(output).toContain('Thread 1 "vCPU 0" hit Breakpoint 1, 0x00000000001029eb in startup_prepare ()');
    expect(output).toMatch(/#1 {2}0x[0-9a-f]+ in main \(\)/);
    expect(output).toContain('= 0x500');
    expect(output).toMatch(/<startup_prepare>:\t0x48\t0x8b/);
    expect(output).toMatch(/<startup_prepare\+7>/);
    expect(output).toContain('vCPU 0: BSP, APIC id 0, running, 0x1029f2 (startup_prepare+0x7)');
    expect(exitCode).toBe(0);
    expect(guest.stdout).toContain('PASS');
  });

  needsGdb(
    'stops an AP at the first instruction of its trampoline, in real mode, and at its entry',
    async () => {
      await using guest = await new WaitingGuest().waiting();

      const output = await runGdb([
        `file ${SMP_ELF}`,
        `target remote ${guest.gdb}`,
        'hbreak *0x8000',
        'continue',
        'output/x $cs_base',
        'set scheduler-locking on',
        'stepi',
        'print $pc',
        'set scheduler-locking off',
        'delete',
        'break ap_entry',
        'continue',
        'print/x $cs',
        'delete',
        'detach',
      ]);
      const exitCode = await guest.exited;

      expect(output).toMatch(/Thread [234] "vCPU [123]" hit Breakpoint 1, 0x0*8000 in/);
      expect(output).toContain('0x8000');
      expect(output).toContain('= (void (*)()) 0x8001');
      expect(output).toMatch(/Thread [234] "vCPU [123]" hit Breakpoint 2, 0x0*102920 in ap_entry \(\)/);
      expect(output).toContain('= 0x8');
      expect(exitCode).toBe(0);
      expect(guest.stdout).toContain('PASS');
    },
  );

  needsGdb('reads and writes registers and memory, and refuses what is no RAM', async () => {
    await using guest = await new WaitingGuest(['--cpus', '1']).waiting();

    const output = await runGdb([
      `target remote ${guest.gdb}`,
      'print $rbx = 0x1122334455667788',
      'print/x $rbx',
      'print $xmm3.v4_int32 = {1, 2, 3, 4}',
      'print $xmm3.v4_int32',
      'print/x *(int *) 0x200000 = 0x12345678',
      'x/4xb 0x200000',
      'print $eflags',
      'set var $pc = 0x100022',
      'print $pc',
      'print/x *(int *) 0xfee00000',
    ]);

    expect(output).toContain('= 0x1122334455667788');
    expect(output).toMatch(/= \{1, 2, 3, 4\}\n.*= \{1, 2, 3, 4\}/);
    expect(output).toMatch(/0x200000:\t0x78\t0x56\t0x34\t0x12/);
    expect(output).toContain('0x100022');
    expect(output).toContain('Cannot access memory at address 0xfee00000');
  });

  needsGdb('kill ends the guest', async () => {
    await using guest = await new WaitingGuest().waiting();

    await runGdb([`target remote ${guest.gdb}`, 'kill']);

    expect(await guest.exited).toBe(0);
    expect(guest.stdout).toBe('');
  });

  needsGdb(
    'attaches on a loopback port, and keeps its breakpoints when the guest resets itself',
    async () => {
      using folder = new TemporaryFolder();
      const life = asm.print('life\n');
      const code = program(life, asm.out8(PORT.resetControl, 6), asm.spin());
      const kernel = await folder.write('kernel', buildPvhElf(code));
      const flags = ['--gdb', '127.0.0.1:0,wait', '--cpus', '2', '--kernel', kernel];
      await using guest = await new WaitingGuest(flags).waiting();

      const output = await runGdb([
        `target remote ${/target remote (127\.0\.0\.1:\d+)/.exec(guest.stderr)![1]!}`,
        `break *${LOAD_ADDRESS + life.length}`,
        'continue',
        'echo the reset:\\n',
        'continue',
        'echo the second life:\\n',
        'continue',
        'kill',
      ]);
      await guest.exited;

      const [first = '', reset = '', second = ''] = output.split(/the reset:|the second life:/);
      expect(first).toContain('hit Breakpoint 1');
      expect(reset).toMatch(/received signal SIGTRAP[^]*0x0*100000 in/);
      expect(second).toContain('hit Breakpoint 1');
      expect(guest.stdout).toBe('life\nlife\n');
    },
  );
});

describe('gdb through the control socket', () => {
  needsGdb('stops a guest that runs, by Ctrl-C too, and lets it go on', async () => {
    await using guest = await new BeatingVolt(['--cpus', '3']).beating();

    const output = await runGdb([
      `file ${SMP_ELF}`,
      `target remote | ${VOLT} ctl ${guest.socket} gdb`,
      'info threads',
      'shell (sleep 1; kill -INT $PPID) &',
      'continue',
      'monitor vcpus',
      'detach',
    ]);
    const beats = guest.stdout.length;
    await waitUntil('a heartbeat after gdb has gone', () => guest.stdout.length > beats);

    expect(output).toMatch(/Thread 3 "vCPU 2" \(AP, APIC id 2, \w+\)/);
    expect(output).toContain('received signal SIGINT');
    expect(output).toContain('vCPU 2: AP, APIC id 2');
  });

  needsGdb('what else wants to move the guest is refused while gdb has stopped it', async () => {
    await using guest = await new BeatingVolt().beating();

    const output = await runGdb([
      `target remote | ${VOLT} ctl ${guest.socket} gdb`,
      `shell ${VOLT} ctl ${guest.socket} status`,
      `shell ${VOLT} ctl ${guest.socket} resume`,
      `shell ${VOLT} ctl ${guest.socket} gdb < /dev/null`,
      `shell ${VOLT} ctl ${guest.socket} snapshot ${guest.folder.at('snapshot')}`,
    ]);

    expect(output).toContain('state    paused');
    expect(output).toContain('Cannot resume the guest: gdb has stopped it');
    expect(output).toContain('Cannot attach gdb: another gdb is attached');
    expect(output).toContain('Cannot save the guest: gdb is attached to it');
  });

  needsKvm('a client that vanishes in the middle leaves a guest that runs, without breakpoints', async () => {
    await using guest = await new BeatingVolt().beating();
    const request = `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'gdb' })}\n`;

    const answer = await exchange(guest.socket, [request, '$Z0,10623d,1#00', '\xff\0$$$#', '$vCont;c#a8']);
    const beats = guest.stdout.length;
    await waitUntil('a heartbeat', () => guest.stdout.length > beats);
    const status = await guest.ctl('status', '--json');

    expect(answer).toContain('"attached":true');
    expect(JSON.parse(status.stdout)).toMatchObject({ state: 'running' });
  });
});

describe('volt ctl dump', () => {
  needsGdb(
    'writes a core file of a running guest that gdb reads, mostly holes, and the guest goes on',
    async () => {
      await using guest = await new BeatingVolt(['--cpus', '3']).beating();
      const file = await guest.folder.write('core', 'an older one');

      const { stdout, exitCode } = await guest.ctl('dump', file, '--json');
      const beats = guest.stdout.length;
      const output = await runGdb([
        `file ${SMP_ELF}`,
        `core-file ${file}`,
        'info threads',
        'thread 3',
        'output/x $cs',
        'x/2i $pc',
        'output/x *(long *) 0x100020',
      ]);
      await waitUntil('a heartbeat after the dump', () => guest.stdout.length > beats);

      const { size, blocks, mode } = statSync(file);
      expect(exitCode).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({
        memoryBytes: 64 * MIB,
        truncated: false,
        vmcoreinfo: false,
      });
      expect(mode & 0o777).toBe(0o600);
      expect(size).toBeGreaterThan(64 * MIB);
      expect(blocks * 512).toBeLessThan(8 * MIB);
      expect(output.match(/LWP [123] .* in count_until/g)).toHaveLength(3);
      expect(output).toMatch(/=> 0x10\w+ <count_until\+\d+>/);
      expect(output).toContain('0x89001146c0bcfcfa');
    },
  );

  needsGdb('is refused while breakpoints are in memory, and leaves nothing behind', async () => {
    await using guest = await new BeatingVolt().beating();
    const file = guest.folder.at('core');

    const output = await runGdb([
      `target remote | ${VOLT} ctl ${guest.socket} gdb`,
      `shell (sleep 1; ${VOLT} ctl ${guest.socket} dump ${file} 2>&1; kill -INT $PPID) &`,
      'continue',
    ]);

    expect(output).toContain("Cannot dump the guest: gdb's breakpoints are in its memory");
    expect(readdirSync(guest.folder.path).filter((name) => name.startsWith('core'))).toEqual([]);
  });
});

describe('--gdb', () => {
  needsKvm.each(['0.0.0.0:1234', '192.0.2.1:1', ':70000', '1234'])('%s is refused', async (where) => {
    const { stderr, exitCode } = await runVolt(['--gdb', where]);

    expect(stderr).toStartWith(`volt: Cannot use --gdb: "${where}" (expected 127.0.0.1:PORT`);
    expect(exitCode).toBe(2);
  });
});

/** Sends pieces one after the other, and closes the connection after the first answer. */
function exchange(path: string, pieces: readonly string[]): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect(path, () => socket.write(pieces[0]!));
  socket.once('error', reject);
  socket.once('data', (bytes) => {
    for (const piece of pieces.slice(1)) socket.write(Buffer.from(piece, 'latin1'));
    socket.end(() => socket.destroy());
    resolve(String(bytes));
  });
  return promise;
}
