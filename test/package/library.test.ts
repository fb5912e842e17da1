/** Volt in the project of somebody else, who installed the package: imported, type-checked and bundled. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';

setDefaultTimeout(120_000);

const ROOT = resolve(import.meta.dir, '../..');
const MODULES = join(ROOT, 'node_modules');
/** As in docs/library.md. */
const WORKERS = ['node_modules/volt/src/vmm/vcpu/worker.ts', 'node_modules/volt/src/virtio/host/worker.ts'];

const PROGRAM = `import { parseConfig, readConsole, VirtualMachine, type VmConfig } from 'volt';

const { config }: { config: VmConfig } = parseConfig({
  'boot-source': { boot_args: 'quick' },
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
  entropy: {},
});
using vm = new VirtualMachine(config);
let text = '';
const reader = readConsole(vm, (bytes) => (text += Buffer.from(bytes).toString()));
vm.start();
const end = await vm.ended;
await reader.finish();
console.log(text.includes('PASS'), end.kind, end.exitCode);
`;
const BOOTED = { stdout: 'true guest-exit 0\n', stderr: '', exitCode: 0 };

const TSCONFIG = {
  compilerOptions: {
    target: 'ESNext',
    module: 'Preserve',
    moduleResolution: 'bundler',
    types: ['bun-types'],
    typeRoots: [MODULES],
    allowImportingTsExtensions: true,
    noEmit: true,
    strict: true,
    skipLibCheck: true,
  },
  include: ['app.ts'],
};

const folder = new TemporaryFolder();
const project = folder.at('project');
const elsewhere = folder.path;

function run(argv: readonly string[], cwd = project) {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...argv], {
    cwd,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  return { stdout: stdout.toString(), stderr: stderr.toString(), exitCode };
}

function bundle(...flags: string[]): void {
  const ran = run([process.execPath, 'build', 'app.ts', ...flags]);
  if (ran.exitCode !== 0) throw new Error(ran.stderr);
}

/** Volt's own dependencies come from its node_modules, so that no registry is asked. */
beforeAll(async () => {
  await mkdir(project);
  const npmCache = ['--cache', folder.at('npm-cache'), '--offline'];
  // Its scripts make what the build puts into the package.
  const packed = run(['npm', 'pack', '--pack-destination', project, ...npmCache], ROOT);
  if (packed.exitCode !== 0) throw new Error(packed.stderr);
  const tarball = readdirSync(project).find((name) => name.endsWith('.tgz'))!;
  const ours = ['@commander-js/extra-typings', 'commander', 'valibot'];
  const dependencies = {
    volt: `file:${tarball}`,
    ...Object.fromEntries(ours.map((name) => [name, `file:${join(MODULES, name)}`])),
  };
  await folder.write('project/package.json', JSON.stringify({ type: 'module', dependencies }));
  await folder.write('project/tsconfig.json', JSON.stringify(TSCONFIG));
  await folder.write('project/app.ts', PROGRAM);
  const flags = ['--install-links', '--ignore-scripts', '--no-audit', '--no-fund'];
  const installed = run(['npm', 'install', ...flags, ...npmCache]);
  if (installed.exitCode !== 0) throw new Error(installed.stderr);
});
afterAll(() => folder[Symbol.dispose]());

describe('the installed package', () => {
  test('has types for programs that import it', () => {
    expect(run([join(MODULES, '.bin/tsc'), '-p', '.'])).toEqual({ stdout: '', stderr: '', exitCode: 0 });
  });

  test('has the command volt', () => {
    const { stdout, stderr } = run([process.execPath, 'node_modules/.bin/volt', '--version']);

    expect([stdout, stderr]).toEqual([expect.stringMatching(/^\d+\.\d+\.\d+\n$/), '']);
  });

  test('has the schema of configuration files, and the page of volt web', async () => {
    const schema = run([process.execPath, 'node_modules/.bin/volt', 'config-schema']);
    const server = Bun.spawn([process.execPath, 'node_modules/.bin/volt', 'web'], {
      cwd: project,
      stdout: 'pipe',
    });
    const { value } = await server.stdout.getReader().read();
    const page = await fetch(new TextDecoder().decode(value).trim());
    server.kill();
    await server.exited;

    expect(JSON.parse(schema.stdout)).toMatchObject({ title: 'A guest of Volt', type: 'object' });
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('<script type="module">');
  });
});

describe.skipIf(!kvmOpens)('a program with the installed package (needs /dev/kvm)', () => {
  test('boots the embedded kernel', () => {
    expect(run([process.execPath, 'app.ts'])).toEqual(BOOTED);
  });

  test('boots it by the command volt, in the sandbox, which is built at run time', () => {
    const flags = ['--cpus', '2', '--cmdline', 'quick'];
    const { stdout, exitCode } = run([process.execPath, 'node_modules/.bin/volt', 'run', ...flags]);

    expect(stdout).toContain('\nPASS');
    expect(exitCode).toBe(0);
  });

  test('boots it when bundled with --external volt', () => {
    bundle('--target', 'bun', '--external', 'volt', '--outdir', 'external');

    expect(run([process.execPath, join(project, 'external/app.js')], elsewhere)).toEqual(BOOTED);
  });

  test('boots it when bundled with the workers as entry points', () => {
    bundle(...WORKERS, '--target', 'bun', '--splitting', '--outdir', '../bundle');

    expect(run([process.execPath, 'bundle/app.js'], elsewhere)).toEqual(BOOTED);
  });

  test('boots it when compiled with the workers as entry points', () => {
    bundle(...WORKERS, '--compile', '--outfile', '../compiled');

    expect(run(['./compiled'], elsewhere)).toEqual(BOOTED);
  });

  test('says what a bundle without the workers lacks', () => {
    bundle('--target', 'bun', '--outdir', '../incomplete');

    const { stderr, exitCode } = run([process.execPath, 'incomplete/app.js'], elsewhere);

    expect(stderr).toContain(
      'Cannot start a thread: the bundle has no node_modules/volt/src/vmm/vcpu/worker.js; see "Bundles"',
    );
    expect(exitCode).toBe(1);
  });
});
