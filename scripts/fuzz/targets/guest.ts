/** Random code in guests on a real KVM: the machine has to end by itself, or when it is told to. */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { PORT } from '../../../src/machine/ports.ts';
import { parseConfig } from '../../../src/config/config.ts';
import { ConsolePump } from '../../../src/vmm/serial/pump.ts';
import { VirtualMachine } from '../../../src/vmm/virtual-machine.ts';
import { asm, buildPvhElf, program, u32 } from '../../../test/guest/tiny-guest.ts';
import { copyTo8000 } from '../../../test/guest/running.ts';
import { virtioAsm } from '../../../test/guest/virtio-guest.ts';
import { seededRandom, type Random } from '../../../test/unit/support/random.ts';
import { kindOf, type FuzzTarget } from '../target.ts';

const CODE_BYTES = 512;
const RUN_MS = 15;
const STOP_MS = 10_000;
const ICR_LOW = LAYOUT.localApic.address + 0x300;
const ICR_HIGH = LAYOUT.localApic.address + 0x310;

/** Puts the AP into real mode at 0x8000: INIT, then SIPI with vector 8; the BSP then spins. */
const startAp = [
  ...[...asm.loadEax(1 << 24), ...asm.storeEax(ICR_HIGH), ...asm.loadEax(0x4500), ...asm.storeEax(ICR_LOW)],
  ...[...asm.loadEax(1 << 24), ...asm.storeEax(ICR_HIGH), ...asm.loadEax(0x4608), ...asm.storeEax(ICR_LOW)],
  ...asm.spin(),
];

/** The lowest bit of the first byte says in which mode the rest runs. */
function kernelOf(input: Uint8Array): Uint8Array {
  const code = [...input.subarray(1, 1 + CODE_BYTES)];
  const realMode = ((input[0] ?? 0) & 1) === 1;
  return buildPvhElf(realMode ? program(copyTo8000(code), startAp) : program(code, asm.halt()));
}

const address = (random: Random) =>
  random.pick([
    LAYOUT.virtio.address + 4 * random.int(0, 0x50) + 0x1000 * random.int(0, 3),
    LAYOUT.localApic.address + 0x10 * random.int(0, 0x40),
    LAYOUT.ioApic.address + 0x10 * random.int(0, 1),
    random.int(0, 0xffff_ffff),
    random.int(0, 0x20_0000),
  ]);
const port = (random: Random) =>
  random.pick([
    random.int(0, 0xffff),
    random.pick(Object.values(PORT) as [number, ...number[]]) + random.int(0, 8),
  ]);
const word = (random: Random) => random.pick([0, 1, 0xff, 0x8000_0000, random.int(0, 0xffff_ffff)]);

/** Instructions as guests have them, and some that few have. */
const PIECES: readonly ((random: Random) => readonly number[])[] = [
  (random) => [...asm.loadEax(word(random)), ...asm.storeEax(address(random))],
  (random) => asm.readEax(address(random)),
  (random) => asm.out8(port(random), random.int(0, 255)),
  (random) => asm.out32(port(random), word(random)),
  (random) => asm.in32(port(random)),
  (random) => asm.printMemory(address(random), random.int(0, 5000)),
  (random) => [
    0xbf,
    ...u32(address(random)),
    0xb9,
    ...u32(random.int(0, 5000)),
    0xba,
    ...u32(port(random)),
    0xf3,
    0x6c,
  ],
  (random) => virtioAsm.start(word(random)),
  (random) => [...virtioAsm.offer(random.int(0, 9)), ...virtioAsm.write(0x50, random.int(0, 3))],
  (random) => [0x0f, 0x22, 0xc0 + 8 * random.pick([0, 3, 4])], // mov cr, eax
  (random) => [0xb9, ...u32(word(random)), 0x0f, random.pick([0x30, 0x32])], // wrmsr, rdmsr
  (random) => [0x0f, 0x01, random.int(0, 255), ...u32(address(random))], // lgdt, lidt, invlpg and others
  (random) => [0xcd, random.int(0, 255)], // int n
  (random) => [0xea, ...u32(address(random)), random.int(0, 64), 0], // jmp far
  (random) => [random.pick([0xf4, 0xfa, 0xfb, 0xcc, 0xce, 0xf1, 0x9b, 0x0b, 0xcf])],
  (random) => [0x0f, random.pick([0xa2, 0x0b, 0x05, 0x34, 0x08, 0x09, 0xaa, 0x31])], // cpuid, ud2, syscall, …
  (random) => [0x0f, 0x00, random.int(0, 255), ...u32(address(random))], // ltr, lldt
  (random) => [0xbc, ...u32(address(random))], // mov esp
  (random) => [...random.bytes(random.int(1, 15))],
];

function randomCode(random: Random): Uint8Array {
  const code: number[] = [random.int(0, 255)];
  for (let pieces = random.int(1, 12); pieces > 0; pieces--)
    code.push(...random.pick(PIECES as [(typeof PIECES)[number], ...(typeof PIECES)[number][]])(random));
  return Uint8Array.from(code);
}

/** New code as a rule, and now and then a piece more in code that was kept. */
function varyCode(random: Random, input: Uint8Array): Uint8Array {
  if (random.int(0, 2) > 0) return randomCode(random);
  const at = random.int(0, input.length);
  return new Uint8Array(Buffer.concat([input.subarray(0, at), randomCode(random), input.subarray(at)]));
}

const seeds = () => Array.from({ length: 16 }, (_, i) => randomCode(seededRandom(i)));

interface Files {
  readonly kernel: string;
  readonly disk: string;
}
let files: Files | undefined;

function prepareFiles(input: Uint8Array): Files {
  if (!files) {
    const folder = mkdtempSync(join(tmpdir(), 'volt-fuzz-guest-'));
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    files = { kernel: join(folder, 'kernel'), disk: join(folder, 'disk') };
    writeFileSync(files.disk, new Uint8Array(64 * 512));
  }
  writeFileSync(files.kernel, kernelOf(input));
  return files;
}

export const guestTarget: FuzzTarget = {
  name: 'guest',
  source: 'none',
  what: 'random code in real and protected mode on KVM, with a disk and random numbers, by the library',
  seeds,
  vary: varyCode,
  run: async (input) => {
    const { kernel, disk } = prepareFiles(input);
    const { config } = parseConfig({
      'boot-source': { kernel_image_path: kernel },
      'machine-config': { vcpu_count: 2, mem_size_mib: 32 },
      drives: [{ drive_id: 'disk', path_on_host: disk }],
      entropy: {},
    });
    using vm = new VirtualMachine(config);
    const pump = new ConsolePump(
      vm.shared,
      (bytes) => bytes.length,
      () => {},
    );
    void pump.run();
    vm.start();
    const stop = setTimeout(() => void vm.stop(), RUN_MS);
    const end = await Promise.race([vm.ended, Bun.sleep(STOP_MS)]);
    clearTimeout(stop);
    if (!end) throw new Error(`the machine did not stop within ${STOP_MS} ms`);
    if (end.kind === 'failed') throw new Error(`the machine failed: ${end.lines[0]}`);
    await pump.finish();
    return `${end.kind} ${kindOf(end.lines[0] ?? '')}`;
  },
  hangMs: 3 * STOP_MS,
};

const VOLT = process.env['VOLT_BINARY'] ?? resolve(import.meta.dir, '../../../volt');
/** README.md's exit codes, those of guests' statuses included, and 128 + SIGTERM. */
const isExitCode = (code: number) =>
  (code >= 0 && code <= 4 && code !== 2) || (code >= 64 && code <= 125) || code === 143;

export const processTarget: FuzzTarget = {
  name: 'process',
  source: 'none',
  what: 'the same in the executable with its sandbox, which is told to end by SIGTERM',
  seeds,
  vary: varyCode,
  run: async (input) => {
    if (!existsSync(VOLT)) throw new Error(`Cannot find ${VOLT}: it is not built; run: npm run build`);
    const { kernel, disk } = prepareFiles(input);
    const argv = [
      VOLT,
      'run',
      '--kernel',
      kernel,
      '--memory',
      '32M',
      '--disk',
      disk,
      '--rng',
      '--shutdown-timeout',
      '0',
    ];
    const sink = openSync('/dev/null', 'w');
    await using child = Bun.spawn([...argv, '--no-reboot'], {
      stdin: 'ignore',
      stdout: sink,
      stderr: 'pipe',
    });
    closeSync(sink);
    const stop = setTimeout(() => child.kill('SIGTERM'), 10 * RUN_MS);
    const kill = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    const [stderr, exitCode] = await Promise.all([new Response(child.stderr).text(), child.exited]);
    clearTimeout(stop);
    clearTimeout(kill);
    if (!isExitCode(exitCode)) throw new Error(`exit code ${exitCode} (${child.signalCode}): ${stderr}`);
    const defect = /.*(?:defect of Volt|sandbox forbids|^\s+at |panic).*/m.exec(stderr);
    if (defect) throw new Error(defect[0]);
    return `${exitCode} ${kindOf(stderr.split('\n')[0] ?? '')}`;
  },
  hangMs: 3 * STOP_MS,
};
