/** One line on stderr that is written again and again. */
import { writeStderr } from './output.ts';

const BAR_CELLS = 30;
const MIB = 1024 * 1024;

export class ProgressBar {
  #isShown = false;

  show(bytes: number, total: number, what: string): void {
    const share = total > 0 ? Math.min(1, bytes / total) : 1;
    const filled = Math.round(share * BAR_CELLS);
    const cells = '#'.repeat(filled).padEnd(BAR_CELLS);
    const amount = `${Math.round(bytes / MIB)} of ${Math.round(total / MIB)} MiB`;
    writeStderr(`\r[${cells}] ${String(Math.round(share * 100)).padStart(3)} %  ${amount}, ${what}\x1b[K`);
    this.#isShown = true;
  }

  clear(): void {
    if (this.#isShown) writeStderr('\r\x1b[K');
    this.#isShown = false;
  }
}
