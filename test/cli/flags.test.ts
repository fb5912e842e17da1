/** Flags and commands as a person mistypes them, and what a second look at a configuration says. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens, runVolt, TemporaryFolder } from './volt-process.ts';
import { buildElf } from '../unit/boot/images.ts';

setDefaultTimeout(60_000);

test.each([
  [['frob'], "unknown command 'frob'; volt --help lists all commands"],
  [['doctr'], "unknown command 'doctr'; did you mean doctor?"],
  [
    ['-m', '1G', '--memory', '2G'],
    'Cannot use --memory twice: the first would have no effect; remove one of them',
  ],
  [
    ['--balloon', '--balloon', 'size=1M'],
    'Cannot use --balloon twice: the first would have no effect; remove one of them',
  ],
  [['--uid', '5'], 'Cannot use --uid without --jail: it has no effect there; add --jail DIR'],
  [['--cgroup', 'a'], 'Cannot use --cgroup without --jail: it has no effect there; add --jail DIR'],
  [
    ['inspect', '--from', 'x', '--no-acpi'],
    'Cannot use --no-acpi with --from: it has no effect on a file; leave it out',
  ],
  [
    ['inspect', '--from', 'x', '--boot-cpu', '1'],
    'Cannot use --boot-cpu with --from: it has no effect on a file; leave it out',
  ],
  [
    ['ctl', 'status'],
    'Cannot run volt ctl status: no guest is named before the command (expected volt ctl <guest> status; volt ps lists guests)',
  ],
  [
    ['health', '--timeout', '0'],
    "option '--timeout <seconds>' argument '0' is invalid. Expected seconds from 0.1 to 3600; volt --help lists all flags",
  ],
])('%p is answered by one line', async (argv, message) => {
  const { stdout, stderr, exitCode } = await runVolt(argv);

  expect(stderr).toBe(`volt: ${message}\n`);
  expect(stdout).toBe('');
  expect(exitCode).toBe(2);
});

test.each([['--help'], ['run --help'], ['inspect --help'], ['top --help'], ['ctl --help']])(
  'volt %s fits 80 columns',
  async (words) => {
    const { stdout } = await runVolt(words.split(' '));

    expect(stdout.length).toBeGreaterThan(400);
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
  },
);

describe('inspect', () => {
  async function inspectCmdline(...flags: string[]) {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildElf());
    await folder.write('a.img', new Uint8Array(512));
    const argv = flags.map((flag) => flag.replaceAll('{dir}', folder.path));
    const { stdout, stderr } = await runVolt(['inspect', '--kernel', kernel, '--json', ...argv]);
    return { cmdline: (JSON.parse(stdout) as { boot: { cmdline: string } }).boot.cmdline, stderr };
  }

  test('shows the first disk of the flags as the root device, unless something else is', async () => {
    const first = await inspectCmdline('--disk', '{dir}/a.img', '--disk', '{dir}/a.img');
    const second = await inspectCmdline('--disk', '{dir}/a.img', '--disk', 'path={dir}/a.img,root,readonly');
    const own = await inspectCmdline('--disk', '{dir}/a.img', '--cmdline', 'root=LABEL=x -- root');

    expect(first.cmdline).toEndWith(' root=/dev/vda rw');
    expect(second.cmdline).toEndWith(' root=/dev/vda ro');
    expect(own.cmdline).toBe('root=LABEL=x -- root');
  });

  test('joins affinities that are given one by one', async () => {
    const { stderr } = await inspectCmdline('--cpu-affinity', '0=0', '--cpu-affinity', '1=1');

    expect(stderr).toBe('');
  });

  test('warns of words that contradict the machine', async () => {
    const { stderr } = await inspectCmdline('--cmdline', 'noapic');

    expect(stderr).toStartWith("volt: noapic on the kernel's command line: ");
  });
});

describe.skipIf(!kvmOpens)('volt check (needs /dev/kvm)', () => {
  test('opens what a run would open', async () => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(4096));

    const good = await runVolt(['check', '--disk', disk, '--json']);
    const bad = await runVolt(['check', '--disk', folder.at('none')]);
    const tap = await runVolt(['check', '--net', 'tap=volt-no-tap']);

    expect(JSON.parse(good.stdout)).toMatchObject({ vcpus: 2, devices: ['disk0'], warnings: [] });
    expect(good.exitCode).toBe(0);
    expect(bad.stderr).toContain('there is no such file');
    expect(bad.exitCode).toBe(2);
    expect(tap.stderr).toContain('there is no such interface');
    expect(tap.exitCode).toBe(1);
  });
});
