/** Hooks. */
import { useEffect, useState } from 'preact/hooks';
import { ask, currentState, onChange, type State } from './connection.ts';

export function useConnection(): State {
  const [state, setState] = useState(currentState);
  useEffect(() => onChange(() => setState(currentState())), []);
  return state;
}

/** The answer to one question about a guest, asked again when `again` changes. */
export function useAnswer<T>(action: string, guest: string, again: unknown): { answer?: T; error?: string } {
  const [result, setResult] = useState<{ answer?: T; error?: string }>({});
  useEffect(() => {
    let isOver = false;
    ask<T>(action, { guest }).then(
      (answer) => !isOver && setResult({ answer }),
      (error: Error) => !isOver && setResult({ error: error.message }),
    );
    return () => {
      isOver = true;
    };
  }, [action, guest, again]);
  return result;
}
