/** Buttons that do something to a guest. */
import { useRef, useState } from 'preact/hooks';
import type { ListedGuest } from '../src/api/web/messages.ts';
import { ask } from './connection.ts';

export function Actions({ guest }: { readonly guest: ListedGuest }) {
  const [isBusy, setBusy] = useState(false);
  const [said, setSaid] = useState<{ text: string; isProblem: boolean }>();
  const dialog = useRef<HTMLDialogElement>(null);
  const { key, state, vcpus = 0, maxVcpus = 0 } = guest;
  const act = async (action: string, params: object = {}, done?: (result: never) => string) => {
    setBusy(true);
    setSaid(undefined);
    try {
      const result = await ask<never>(action, { guest: key, ...params });
      if (done) setSaid({ text: done(result), isProblem: false });
    } catch (error) {
      setSaid({ text: (error as Error).message, isProblem: true });
    } finally {
      setBusy(false);
    }
  };
  const button = (text: string, action: () => void, title?: string) => (
    <button key={text} onClick={action} disabled={isBusy} title={title}>
      {text}
    </button>
  );
  const runs = state === 'running' || state === 'paused';
  return (
    <div class="actions" role="group" aria-label={`Actions for ${key}`}>
      {state === 'stopped' && guest.isDefined ? button('Start', () => void act('start')) : null}
      {state === 'running' ? button('Pause', () => void act('pause')) : null}
      {state === 'paused' ? button('Resume', () => void act('resume')) : null}
      {runs
        ? button('Power button', () => void act('powerdown'), 'The guest shuts itself down if it listens')
        : null}
      {runs ? button('Snapshot…', () => dialog.current?.showModal()) : null}
      {runs && maxVcpus > vcpus
        ? button('Plug a CPU', () => void act('cpus', { count: vcpus + 1 }, sayCpus))
        : null}
      {runs && vcpus > 1 && maxVcpus > 1 && guest.maxVcpus !== guest.vcpus
        ? button('Eject a CPU', () => void act('cpus', { count: vcpus - 1 }, sayCpus))
        : null}
      {runs ? (
        <Sure
          text="Stop"
          question="End the guest without a shutdown?"
          onSure={() => void act('stop')}
          isBusy={isBusy}
        />
      ) : null}
      {said ? (
        <p class={said.isProblem ? 'problem' : 'quiet'} role={said.isProblem ? 'alert' : 'status'}>
          {said.text}
        </p>
      ) : null}
      <SnapshotDialog
        dialog={dialog}
        name={key}
        onSave={(directory) =>
          void act(
            'snapshot',
            { directory },
            ({ pausedMs }: { readonly pausedMs: number }) =>
              `Saved to ${directory}; the guest was paused for ${Math.round(pausedMs)} ms.`,
          )
        }
      />
    </div>
  );
}

function sayCpus({ present }: { readonly present: number }): string {
  return `The guest has ${present} CPUs now.`;
}

/** A button whose second click counts. */
function Sure(props: {
  readonly text: string;
  readonly question: string;
  readonly onSure: () => void;
  readonly isBusy: boolean;
}) {
  const [isAsking, setAsking] = useState(false);
  if (!isAsking)
    return (
      <button class="danger" disabled={props.isBusy} onClick={() => setAsking(true)}>
        {props.text}
      </button>
    );
  return (
    <span class="sure">
      {props.question}{' '}
      <button
        class="danger"
        autoFocus
        onClick={() => {
          setAsking(false);
          props.onSure();
        }}
      >
        {props.text} it
      </button>{' '}
      <button onClick={() => setAsking(false)}>Cancel</button>
    </span>
  );
}

function SnapshotDialog(props: {
  readonly dialog: { readonly current: HTMLDialogElement | null };
  readonly name: string;
  readonly onSave: (directory: string) => void;
}) {
  const [directory, setDirectory] = useState(`/var/lib/volt/${props.name}.snap`);
  return (
    <dialog ref={props.dialog as never} aria-label="Snapshot">
      <form
        method="dialog"
        onSubmit={(event) => {
          if ((event.submitter as HTMLButtonElement | null)?.value === 'save') props.onSave(directory);
        }}
      >
        <label>
          Directory on the host
          <input
            value={directory}
            pattern="/.*"
            required
            onInput={(event) => setDirectory(event.currentTarget.value)}
          />
        </label>
        <p class="quiet">The guest goes on afterwards; volt restore continues from the directory.</p>
        <button value="save">Save</button>{' '}
        <button value="cancel" formNoValidate>
          Cancel
        </button>
      </form>
    </dialog>
  );
}
