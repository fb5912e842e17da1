/**
 * The executable is only Volt: neither its environment nor the folder it is started in turn it into something else.
 * What these settings do to a compiled program that is not sealed is shown by the one test of `bun` itself.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync } from 'node:fs';
import { VERSION } from '../../src/cli/version.ts';
import { sealExecutable } from '../../scripts/seal-executable.ts';
import { kvmOpens, TemporaryFolder, VOLT } from './volt-process.ts';

setDefaultTimeout(60_000);

const PRELOAD = "require('node:fs').writeFileSync(process.env.MARK, ''); console.log('preloaded');\n";

interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** Runs `volt` in `folder` with more environment. */
async function runIn(
  folder: TemporaryFolder,
  env: Record<string, string>,
  args: readonly string[] = ['--version'],
): Promise<Ran> {
  const child = Bun.spawn([VOLT, ...args], {
    cwd: folder.path,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], MARK: folder.at('mark'), ...env },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited };
}

const ONLY_VOLT: Ran = { stdout: `${VERSION}\n`, stderr: '', exitCode: 0 };

describe('files of the folder it is started in', () => {
  test('bunfig.toml preloads nothing', async () => {
    using folder = new TemporaryFolder();
    await folder.write('preload.ts', PRELOAD);
    await folder.write('bunfig.toml', 'preload = ["./preload.ts"]\n');

    expect(await runIn(folder, {})).toEqual(ONLY_VOLT);
    expect(existsSync(folder.at('mark'))).toBe(false);
  });

  test('.env files set nothing', async () => {
    using folder = new TemporaryFolder();
    for (const name of ['.env', '.env.local', '.env.production', '.env.development']) {
      await folder.write(name, 'BUN_JSC_useJIT=0\nXDG_RUNTIME_DIR=/nonexistent\n');
    }

    expect(await runIn(folder, {})).toEqual(ONLY_VOLT);
  });

  test('tsconfig.json and package.json that are broken are not read', async () => {
    using folder = new TemporaryFolder();
    await folder.write('tsconfig.json', '{ "compilerOptions": ');
    await folder.write('package.json', 'no json');

    expect(await runIn(folder, {})).toEqual(ONLY_VOLT);
  });
});

describe("Bun's environment variables", () => {
  test.each([
    ['BUN_BE_BUN', '1'],
    ['BUN_OPTIONS', '--preload=./preload.ts'],
    ['BUN_OPTIONS', '--cpu-prof'],
    ['BUN_OPTIONS', '--print 1'],
    ['NODE_OPTIONS', '--require=./preload.ts'],
    ['BUN_INSPECT_PRELOAD', './preload.ts'],
    ['BUN_INSPECT', 'ws+unix://./mark'],
    ['BUN_INSPECT_CONNECT_TO', 'unix://./mark'],
    ['BUN_INSPECT_NOTIFY', 'unix://./mark'],
    ['BUN_BYTECODE_ORDER_OUT', './mark'],
    ['BUN_BYTECODE_ORDER_NAMES_OUT', './mark'],
    ['BUN_BYTECODE_DIGEST_OUT', './mark'],
    ['BUN_RUNTIME_TRANSPILER_CACHE_PATH', './mark'],
    ['BUN_TRACE', './mark'],
    ['BUN_CONFIG_VERBOSE_FETCH', 'curl'],
    ['BUN_DEBUG', '1'],
    ['NODE_COMPILE_CACHE', './mark'],
    ['NODE_V8_COVERAGE', './mark'],
    ['NODE_CHANNEL_FD', '1'],
  ])('%s=%s changes nothing and leaves no file', async (name, value) => {
    using folder = new TemporaryFolder();
    await folder.write('preload.ts', PRELOAD);

    expect(await runIn(folder, { [name]: value })).toEqual(ONLY_VOLT);
    expect(readdirSync(folder.path)).toEqual(['preload.ts']);
  });

  test('BUN_JSC_ settings, which reach the engine, are refused in one line', async () => {
    using folder = new TemporaryFolder();

    const ran = await runIn(folder, { BUN_JSC_useJIT: '0' });

    expect(ran).toEqual({
      stdout: '',
      stderr:
        "volt: Cannot start with BUN_JSC_useJIT in the environment: it changes Volt's JavaScript engine; unset it\n",
      exitCode: 2,
    });
  });

  test.skipIf(!kvmOpens)('a guest runs with them as without (needs /dev/kvm)', async () => {
    using folder = new TemporaryFolder();
    await folder.write('preload.ts', PRELOAD);
    const env = {
      BUN_OPTIONS: '--preload=./preload.ts',
      BUN_INSPECT_PRELOAD: './preload.ts',
      BUN_BE_BUN: '1',
    };

    const ran = await runIn(folder, env, ['--memory', '64M', '--cmdline', 'quick', '--json']);

    expect(JSON.parse(ran.stdout)).toMatchObject({ verdict: 'pass' });
    expect(existsSync(folder.at('mark'))).toBe(false);
  });
});

test('flags of Bun are unknown to Volt', async () => {
  using folder = new TemporaryFolder();

  const ran = await runIn(folder, {}, ['--inspect']);

  expect(ran.exitCode).toBe(2);
  expect(ran.stderr).toMatch(/^volt: unknown option '--inspect'[^\n]*\n$/);
});

test('a build is sealed once, and what cannot be sealed is an error', async () => {
  expect(() => sealExecutable(VOLT)).toThrow('it names BUN_BE_BUN 0 times (expected once');
});
