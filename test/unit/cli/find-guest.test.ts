import { describe, expect, test } from 'bun:test';
import { onlyGuest } from '../../../src/cli/find-guest.ts';

const guest = (pid: number) => ({ pid, path: `/run/volt/${pid}.sock`, status: undefined });

describe('a command without the name of a guest', () => {
  test('takes the only guest that runs', () => {
    expect(onlyGuest([guest(7)], 'top')).toEqual(guest(7));
  });

  test('says which guests there are when several run', () => {
    expect(() => onlyGuest([guest(1), guest(7)], 'top')).toThrow(
      'Cannot choose a guest: 2 run; use volt top with one of 1, 7',
    );
  });

  test('says how to have one when none runs', () => {
    expect(() => onlyGuest([], 'top')).toThrow(
      'Cannot find a guest: none runs with a control socket; start one with volt --name NAME',
    );
  });
});
