/** Commander's errors in Volt's format: one line, with the command that shows the help. */
export function commanderError(text: string, helpCommand: string, what: string): string {
  const line = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  return `volt: ${line}; ${helpCommand} lists all ${what}\n`;
}
