/** `volt --version` and `volt --help`, which load nothing else. */
import { writeStdout } from './output.ts';
import { VERSION } from './version.ts';

/** What scripts/build.ts defines in the executable; elsewhere commander makes it. */
declare const PREBUILT_HELP: string;

/** Prints what `word` asks for and exits; returns if it asks for something else. */
export async function printIfKnown(word: string): Promise<void> {
  const text = textFor(word);
  if (text === undefined) return;
  try {
    writeStdout(text);
  } catch (error) {
    const { fail } = await import('./fail.ts');
    process.exitCode = fail(error);
  }
  process.exit();
}

function textFor(word: string): string | undefined {
  switch (word) {
    case '-V':
    case '--version':
      return `${VERSION}\n`;
    case '-h':
    case '--help':
    case 'help':
      return typeof PREBUILT_HELP === 'undefined' ? undefined : PREBUILT_HELP;
    default:
      return undefined;
  }
}
