/** Help and version, and configuration files that volt takes with a warning. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { version } from '../../package.json' with { type: 'json' };
import { helpText } from '../../src/cli/program.ts';
import { asm, buildPvhElf, program } from '../guest/tiny-guest.ts';
import { buildElf } from './images.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from './volt-process.ts';

setDefaultTimeout(120_000);

describe('help and version', () => {
  test.each([['--version'], ['-V']])('%s prints the version on stdout', async (flag) => {
    const { stdout, stderr, exitCode } = await runVolt([flag]);

    expect(stdout).toBe(`${version}\n`);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('--help in the executable, written when it was built, is what the command line makes now', async () => {
    const { stdout } = await runVolt(['--help']);

    expect(stdout).toBe(helpText());
  });

  test.each([['--version'], ['--help']])('%s on a full stdout is an error', async (flag) => {
    const run = Bun.spawn([VOLT, flag], { stdout: Bun.file('/dev/full'), stderr: 'pipe' });

    expect(await run.stderr.text()).toStartWith('volt: Cannot write to stdout: ENOSPC, ');
    expect(await run.exited).toBe(1);
  });

  test.each([[['--help']], [['-h']], [['help']]])(
    '%j prints commands, flags, examples and exit codes on stdout',
    async (args) => {
      const { stdout, stderr, exitCode } = await runVolt(args);

      expect(stdout).toStartWith('Usage: volt [options] [command]\n');
      for (const command of ['run', 'inspect', 'selftest', 'doctor']) {
        expect(stdout).toMatch(new RegExp(`^ {2}${command} `, 'm'));
      }
      for (const flag of [
        'kernel',
        'initrd',
        'cmdline',
        'cpus',
        'memory',
        'hugepages',
        'console',
        'config',
      ]) {
        expect(stdout).toMatch(new RegExp(`^ {2}(-\\w, )?--${flag}\\b`, 'm'));
      }
      expect(stdout).toContain('\nExit codes:\n  0  ');
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    },
  );

  test.each([['run'], ['inspect'], ['selftest'], ['doctor']])(
    'help %s prints the help of that command on stdout',
    async (command) => {
      const [asCommand, asFlag] = [await runVolt(['help', command]), await runVolt([command, '--help'])];

      expect(asCommand.stdout).toStartWith(`Usage: volt ${command} [options]`);
      expect(asCommand.stderr).toBe('');
      expect(asCommand.exitCode).toBe(0);
      expect(asFlag).toEqual(asCommand);
    },
  );

  test('no line of the help is longer than a terminal of 80 columns', async () => {
    const { stdout } = await runVolt(['--help']);

    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
  });
});

/** Runs `volt inspect`, which needs no KVM, with a configuration of a kernel and `more`. */
async function inspectConfig(more: string) {
  using folder = new TemporaryFolder();
  const kernel = await folder.write('kernel', buildElf());
  const boot = JSON.stringify({ kernel_image_path: kernel });
  const config = await folder.write('vm.json', `{ "boot-source": ${boot}, ${more} }`);
  const { stderr, exitCode } = await runVolt(['inspect', '--config', config]);
  return { stderr: stderr.replaceAll(folder.path, '{dir}'), exitCode };
}

describe('keys that volt does not know', () => {
  test('are named in a warning each, in the order of the file', async () => {
    const { stderr, exitCode } = await inspectConfig(
      '"logger": {}, "machine-config": { "frobs": 2, "vcpu_count": 1, "mem_size_mib": 64, "track_dirty_pages": false }',
    );

    expect(stderr).toBe(
      'volt: {dir}/vm.json: logger is not supported by this version and is ignored\n' +
        'volt: {dir}/vm.json: machine-config.frobs is not supported by this version and is ignored\n',
    );
    expect(exitCode).toBe(0);
  });

  test.each([
    ['"constructor": null', 'constructor'],
    ['"toString": 1', 'toString'],
    ['"machine-config": { "vcpu_count": 1, "mem_size_mib": 64, "toString": 1 }', 'machine-config.toString'],
    [
      '"machine-config": { "vcpu_count": 1, "mem_size_mib": 64, "constructor": {} }',
      'machine-config.constructor',
    ],
  ])('are named even where JavaScript knows them: %s', async (more, key) => {
    const { stderr, exitCode } = await inspectConfig(more);

    expect(stderr).toBe(`volt: {dir}/vm.json: ${key} is not supported by this version and is ignored\n`);
    expect(exitCode).toBe(0);
  });

  test('take one line of stderr, whatever characters they have', async () => {
    const { stderr, exitCode } = await inspectConfig('"with\\na newline": 1');

    expect(stderr).toMatch(/^volt: \{dir\}\/vm\.json: with.a newline is not supported .*\n$/);
    expect(exitCode).toBe(0);
  });

  test('are not warned of with --log-level error', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildElf());
    const config = { 'boot-source': { kernel_image_path: kernel }, logger: {} };
    const path = await folder.write('vm.json', JSON.stringify(config));

    const { stderr } = await runVolt(['inspect', '--config', path, '--log-level', 'error']);

    expect(stderr).toBe('');
  });

  test.skipIf(!kvmOpens)('do not keep the guest from booting (needs /dev/kvm)', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('booted'), asm.exit(0))));
    const config = {
      'boot-source': { kernel_image_path: kernel, boot_args: 'console=ttyS0', initrd_path: null },
      'machine-config': { vcpu_count: 2, mem_size_mib: 64, smt: false, track_dirty_pages: false },
      'mmds-config': { network_interfaces: [] },
    };
    const path = await folder.write('vm.json', JSON.stringify(config));

    const { stdout, stderr, exitCode } = await runVolt(['--config', path]);

    expect(stdout).toBe('booted');
    expect(stderr).toBe(`volt: ${path}: mmds-config is not supported by this version and is ignored\n`);
    expect(exitCode).toBe(0);
  });
});

describe('values that nobody would write', () => {
  test.each([
    ['a text of 100 KB', JSON.stringify('x'.repeat(100_000))],
    ['arrays a hundred thousand deep', '['.repeat(100_000) + ']'.repeat(100_000)],
  ])('get one short line: %s', async (_, value) => {
    const { stderr, exitCode } = await inspectConfig(`"machine-config": { "vcpu_count": ${value} }`);

    expect(stderr).toMatch(/^volt: Cannot use [^\n]*\n$/);
    expect(stderr.length).toBeLessThan(1000);
    expect(exitCode).toBe(2);
  });
});

describe('flags and a file together', () => {
  test.each([
    ['vcpu_count', { mem_size_mib: 64 }, ['--cpus', '3']],
    ['mem_size_mib', { vcpu_count: 3 }, ['--memory', '64M']],
  ])('a flag gives the %s that the file lacks', async (_, machine, flags) => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildElf());
    const config = { 'boot-source': { kernel_image_path: kernel }, 'machine-config': machine };
    const path = await folder.write('vm.json', JSON.stringify(config));

    const { exitCode } = await runVolt(['inspect', '--config', path, ...flags]);

    expect(exitCode).toBe(0);
  });

  test('the flag wins, key by key', async () => {
    using folder = new TemporaryFolder();
    const config = {
      'boot-source': { kernel_image_path: '/nowhere', boot_args: 'from the file' },
      'machine-config': { vcpu_count: 3, mem_size_mib: 64 },
    };
    const path = await folder.write('vm.json', JSON.stringify(config));
    const kernel = await folder.write('kernel', buildElf());

    const { stdout } = await runVolt([
      'inspect',
      '--json',
      '--config',
      path,
      '--kernel',
      kernel,
      '--cpus',
      '5',
    ]);

    const { boot, cpus, ram } = JSON.parse(stdout);
    expect(boot.cmdline).toBe('from the file');
    expect(cpus).toHaveLength(5);
    expect(ram).toEqual([{ address: 0, bytes: 64 * 2 ** 20 }]);
  });
});

describe('advice on memory', () => {
  test('is enough: a kernel that does not fit does with what the error asks for', async () => {
    using folder = new TemporaryFolder();
    const big = buildElf({ segments: [{ memoryBytes: 200 * 2 ** 20 + 1 }] });
    const kernel = await folder.write('kernel', big);
    const initrd = await folder.write('initrd', new Uint8Array(20 * 2 ** 20 + 1));
    const flags = ['inspect', '--kernel', kernel, '--initrd', initrd, '--memory'];

    const { stderr } = await runVolt([...flags, '32M']);
    const advised = /--memory (?:of at least )?(\d+M)/.exec(stderr)![1]!;
    const { exitCode } = await runVolt([...flags, advised]);

    expect(exitCode).toBe(0);
  });

  test('is not given where no memory would be enough', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildElf({ segments: [{}, { address: 2 ** 32 }] }));

    const { stderr, exitCode } = await runVolt(['inspect', '--kernel', kernel, '--memory', '8G']);

    expect(stderr).toMatch(/^volt: Cannot load [^\n]*\n$/);
    expect(stderr).not.toContain('expected --memory of at least');
    expect(exitCode).toBe(2);
  });
});
