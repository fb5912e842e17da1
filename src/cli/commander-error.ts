/** Commander's own errors in Volt's form: one line, and where to read on. */
export function commanderError(text: string, helpCommand: string, what: string): string {
  const line = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  return `volt: ${line}; ${helpCommand} lists all ${what}\n`;
}
