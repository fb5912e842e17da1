/** The guest's console, in xterm.js. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ask, onConsole } from './connection.ts';

const SCROLLBACK_LINES = 5000;
/** Of one message; the control socket takes 4096. */
const PIECE_BYTES = 2048;

export function Console({ guest, pid }: { readonly guest: string; readonly pid: number | undefined }) {
  const place = useRef<HTMLDivElement>(null);
  const [mayWrite, setMayWrite] = useState(true);
  const [problem, setProblem] = useState<string>();
  const attach = async (take: boolean) => {
    try {
      setMayWrite((await ask<{ writer: boolean }>('console', { guest, take })).writer);
      setProblem(undefined);
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  useEffect(() => {
    const terminal = new Terminal({
      scrollback: SCROLLBACK_LINES,
      screenReaderMode: true,
      convertEol: false,
      fontSize: 13,
      theme: { background: '#101418', foreground: '#d8dee4' },
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.open(place.current!);
    fit.fit();
    const watcher = new ResizeObserver(() => fit.fit());
    watcher.observe(place.current!);
    // Tab leaves the terminal together with Shift or Escape: nobody is caught in it.
    terminal.attachCustomKeyEventHandler(({ key, shiftKey }) => !(key === 'Tab' && shiftKey));
    let sending = Promise.resolve();
    const typed = terminal.onData((text) => {
      const all = new TextEncoder().encode(text);
      for (let at = 0; at < all.length; at += PIECE_BYTES) {
        const data = toBase64(all.subarray(at, at + PIECE_BYTES));
        sending = sending
          .then(() => ask('type', { guest, data }))
          .then(
            () => {},
            () => {},
          );
      }
    });
    const stop = onConsole((message) => {
      if (!('guest' in message) || message.guest !== guest) return;
      if (message.type === 'output') terminal.write(fromBase64(message.data));
      else if (message.type === 'lost') terminal.write(`\r\n[${message.bytes} bytes were lost]\r\n`);
      else if (message.type === 'writer') setMayWrite(message.mayWrite);
    });
    terminal.reset();
    void attach(false);
    return () => {
      stop();
      typed.dispose();
      watcher.disconnect();
      terminal.dispose();
    };
  }, [guest, pid]);
  return (
    <section aria-label="Console">
      {problem === undefined ? null : (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {mayWrite ? null : (
        <p>
          Another client types on this console.{' '}
          <button onClick={() => void attach(true)}>Type here instead</button>
        </p>
      )}
      <div ref={place} class="console" />
      <p class="quiet">Shift-Tab leaves the terminal.</p>
    </section>
  );
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
