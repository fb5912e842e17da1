/** What goes wrong on a host in operation: each has an outcome, and none is a hang or a stack trace. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { once } from 'node:events';
import { VirtualMachine } from '../../src/api/index.ts';
import { OPEN, openFile } from '../../src/ffi/file.ts';
import { libc } from '../../src/ffi/libc.ts';
import { sampleVcpus } from '../../src/vmm/vcpu/control.ts';
import { phaseOf } from '../../src/vmm/vcpu/sample.ts';
import { canChangeMounts, inOwnMounts } from '../cli/own-mounts.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { runMachine, smallConfig, waitUntil } from './guest-run.ts';
import { obedientGuest, untilButton } from './power-guest.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';
import { BeatingVolt } from './volt-child.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const needsMounts = testNeeding('/dev/kvm, unshare and user namespaces', !kvmOpens || !canChangeMounts);

async function runAndTerminate(code: Uint8Array, flags: readonly string[] = []) {
  using folder = new TemporaryFolder();
  const kernel = await folder.write('kernel', buildPvhElf(code));
  await using child = Bun.spawn([VOLT, '--kernel', kernel, '--memory', '32M', '--cpus', '1', ...flags], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 90_000,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  const reading = (async () => {
    for await (const bytes of child.stdout) stdout += Buffer.from(bytes).toString('latin1');
  })();
  await waitUntil('the guest runs', () => stdout.includes('ready\n'));
  child.kill('SIGTERM');
  const stderr = await new Response(child.stderr).text();
  await reading;
  return { stdout, stderr, exitCode: await child.exited };
}

describe('SIGTERM (needs /dev/kvm)', () => {
  needsKvm('lets a guest that hears the power button power itself off: exit code 0', async () => {
    const listens = obedientGuest();

    expect(await runAndTerminate(listens)).toEqual({ stdout: 'ready\nbye\n', stderr: '', exitCode: 0 });
  });

  needsKvm('ends a guest that hears it and does nothing, after --shutdown-timeout', async () => {
    const ignores = program(asm.print('ready\n'), untilButton, asm.print('heard\n'), asm.spin());

    expect(await runAndTerminate(ignores, ['--shutdown-timeout', '1'])).toEqual({
      stdout: 'ready\nheard\n',
      stderr: 'volt: the guest did not power off within 1 s; ending it\n',
      exitCode: 143,
    });
  });

  needsKvm('ends a guest that does not listen soon, whatever the timeout', async () => {
    const deaf = program(asm.print('ready\n'), asm.spin());

    const { stderr, exitCode } = await runAndTerminate(deaf, ['--shutdown-timeout', '3600']);

    expect(stderr).toBe('');
    expect(exitCode).toBe(143);
  });

  needsKvm('does not ask with --shutdown-timeout 0, nor a guest without ACPI', async () => {
    const listens = obedientGuest();

    const unasked = await runAndTerminate(listens, ['--shutdown-timeout', '0']);
    const without = await runAndTerminate(listens, ['--no-acpi']);

    expect([unasked.stdout, without.stdout]).toEqual(['ready\n', 'ready\n']);
    expect([unasked.exitCode, without.exitCode]).toEqual([143, 143]);
  });
});

describe('SIGKILL of Volt', () => {
  needsKvm('leaves a socket that the next guest at that path replaces', async () => {
    await using first = await new BeatingVolt().beating();
    first.kill('SIGKILL');
    await first.exited;
    const left = existsSync(first.socket);

    await using second = await new BeatingVolt(['--control', first.socket]).beating();
    const { exitCode } = await runVolt(['ctl', first.socket, 'status']);

    expect(left).toBe(true);
    expect(exitCode).toBe(0);
    expect(second.stderr).toBe('');
  });
});

describe('a full disk under the log of the console (needs unshare)', () => {
  needsMounts('is told once, the guest goes on, and the log goes on when there is room again', async () => {
    using folder = new TemporaryFolder();
    // 512 KiB with a file that leaves about 24: the guest's 'loop' prints more than that in no time.
    const script = `mount -t tmpfs -o size=512k none '${folder.path}'`;
    const log = folder.at('log');
    const ballast = folder.at('ballast');
    const printing = await Bun.write(
      `${folder.path}-kernel`,
      buildPvhElf(program(asm.forEver([...asm.print('0123456789abcdef\n')]))),
    );
    expect(printing).toBeGreaterThan(0);
    const flags = `--kernel '${folder.path}-kernel' --memory 32M --cpus 1 --console file='${log}'`;
    const inside = `head -c 487424 /dev/zero > '${ballast}'; '${VOLT}' ${flags} & volt=$!
      sleep 2; rm '${ballast}'; sleep 1; kill -KILL $volt; wait; cat '${log}'`;

    await using child = Bun.spawn([...inOwnMounts(script), 'sh', '-c', inside], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
      timeout: 60_000,
      killSignal: 'SIGKILL',
    });
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    await Bun.file(`${folder.path}-kernel`).delete();

    expect(stderr).toMatch(
      /^volt: the console's file has no room \(ENOSPC\); the guest goes on without it\n/,
    );
    expect(stderr).toMatch(
      /\nvolt: the console's file has room again; \d+ bytes of the console are missing from it\n/,
    );
    expect(stdout).toMatch(/\n\[volt: \d+ bytes of console output had no room on the disk\]\n/);
  });
});

describe('a client of the control socket', () => {
  needsKvm('that vanishes in the middle of a request or does not read its answers does no harm', async () => {
    await using volt = await new BeatingVolt().beating();
    for (let i = 0; i < 20; i++) {
      const socket = connect(volt.socket);
      await once(socket, 'connect');
      socket.write(`{"jsonrpc":"2.0","id":${i},"method":"vcpus"}\n{"jsonrpc":"2.0","id":`);
      socket.destroy();
    }
    const silent = connect(volt.socket);
    await once(silent, 'connect');
    silent.pause();
    silent.write('{"jsonrpc":"2.0","id":1,"method":"vcpus"}\n'.repeat(500));

    const { exitCode } = await volt.ctl('status');
    silent.destroy();

    expect(exitCode).toBe(0);
    expect(volt.stderr).toBe('');
  });
});

describe("a vCPU's thread", () => {
  needsKvm('whose KVM_RUN fails ends the guest with the reason, and its siblings with it', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('ready\n'), asm.spin())));
    using vm = new VirtualMachine(smallConfig(kernel, 2));
    const running = runMachine(vm);
    await waitUntil('the guest runs', () => phaseOf(vm.vcpus[0]!.words) === 'running');

    // Its descriptor becomes another file, as if KVM had lost the vCPU.
    using other = openFile('/dev/null', OPEN.readOnly);
    libc.dup2(other.fd, vm.vcpus[0]!.kvm.fd);
    await sampleVcpus(vm.vcpus).catch(() => {});
    const { end } = await running;

    expect(end).toMatchObject({ kind: 'failed', exitCode: 1, vcpu: 0 });
    expect(end.lines[0]).toStartWith('Cannot run vCPU 0: ');
  });
});
