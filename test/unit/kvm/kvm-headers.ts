/** Asks the C compiler of this machine what KVM's headers say. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

function compile(source: string, output: string): { ok: boolean; stderr: string } {
  const { success, stderr } = Bun.spawnSync(['gcc', '-w', '-x', 'c', '-', '-o', output], {
    stdin: Buffer.from(source),
  });
  return { ok: success, stderr: stderr.toString() };
}

/** Whether gcc is there and finds linux/kvm.h. */
export function hasKvmHeaders(): boolean {
  if (Bun.which('gcc') === null) return false;
  return compile('#include <linux/kvm.h>\nint main(void) { return 0; }\n', '/dev/null').ok;
}

/** The values of C expressions, in their order, as unsigned 64-bit numbers. */
export function readKvmHeaders(expressions: readonly string[]): number[] {
  const directory = mkdtempSync(join(tmpdir(), 'volt-kvm-headers-'));
  try {
    const lines = expressions.map(
      (expression) => `  printf("%llu\\n", (unsigned long long)(${expression}));`,
    );
    const source = `#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`;
    const program = join(directory, 'read-headers');
    writeFileSync(`${program}.c`, source);
    const { ok, stderr } = compile(source, program);
    if (!ok) throw new Error(`Cannot compile the program that reads KVM's headers: ${stderr}`);
    return Bun.spawnSync([program]).stdout.toString().trim().split('\n').map(Number);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
