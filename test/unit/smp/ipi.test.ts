import { describe, expect, test } from 'bun:test';
import { checkIpiVector, encodeMsi, ipiTargets, type IpiRequest } from '../../../src/smp/ipi.ts';
import { voltErrorOf } from '../support/errors.ts';

describe('the MSI of an interrupt', () => {
  test.each<[IpiRequest, number, number]>([
    [{ destination: 1, mode: 'fixed', vector: 0x41 }, 0xfee0_1000, 0x4041],
    [{ destination: 1, mode: 'lowest-priority', vector: 0x41 }, 0xfee0_1000, 0x4141],
    [{ destination: 1, mode: 'nmi' }, 0xfee0_1000, 0x4400],
    [{ destination: 1, mode: 'init' }, 0xfee0_1000, 0x4500],
    [{ destination: 1, mode: 'sipi', vector: 8 }, 0xfee0_1000, 0x4608],
    [{ destination: 1, mode: 'init', level: false, trigger: 'level' }, 0xfee0_1000, 0x8500],
  ])('%p goes to %p with %p', (request, address, data) => {
    expect(encodeMsi(request, 1)).toEqual({ address, addressHigh: 0, data });
  });

  test('carries the upper bits of an x2APIC id in the upper half of its address', () => {
    const msi = encodeMsi({ destination: 0, mode: 'nmi' }, 0x1234);
    expect([msi.address, msi.addressHigh]).toEqual([0xfee3_4000, 0x1200]);
  });

  test('reaches the highest 8-bit id', () => {
    expect(encodeMsi({ destination: 0, mode: 'nmi' }, 254).address).toBe(0xfeef_e000);
  });
});

describe('targets', () => {
  test('are one, all, or all but one', () => {
    expect(ipiTargets({ destination: 2, mode: 'nmi' }, [0, 1, 2, 3])).toEqual([2]);
    expect(ipiTargets({ destination: 'all', mode: 'nmi' }, [0, 1, 2])).toEqual([0, 1, 2]);
    expect(ipiTargets({ destination: 'all-but', except: 1, mode: 'nmi' }, [0, 1, 2])).toEqual([0, 2]);
  });

  test('are those that are there, where some were unplugged', () => {
    expect(ipiTargets({ destination: 'all', mode: 'nmi' }, [0, 1, 3])).toEqual([0, 1, 3]);
    expect(voltErrorOf(() => ipiTargets({ destination: 2, mode: 'nmi' }, [0, 1, 3])).message).toBe(
      'Cannot send an interrupt: destination is 2 (expected a vCPU from 0 to 3)',
    );
  });

  test.each<[IpiRequest, string]>([
    [{ destination: 4, mode: 'nmi' }, 'destination is 4 (expected a vCPU from 0 to 3)'],
    [{ destination: -1, mode: 'nmi' }, 'destination is -1 (expected a vCPU from 0 to 3)'],
    [{ destination: 1.5, mode: 'nmi' }, 'destination is 1.5 (expected a vCPU from 0 to 3)'],
    [{ destination: 'all-but', mode: 'nmi' }, 'except is missing (expected a vCPU from 0 to 3)'],
  ])('%p is refused', (request, message) => {
    expect(voltErrorOf(() => ipiTargets(request, [0, 1, 2, 3])).message).toBe(
      `Cannot send an interrupt: ${message}`,
    );
  });
});

describe('vectors', () => {
  test.each<[IpiRequest['mode'], number | undefined]>([
    ['fixed', 16],
    ['fixed', 255],
    ['lowest-priority', 32],
    ['sipi', 0],
    ['sipi', 255],
    ['extint', 15],
    ['nmi', undefined],
    ['init', undefined],
  ])('%s with %p is right', (mode, vector) => {
    const request = { destination: 0, mode } as const;
    expect(() => checkIpiVector(vector === undefined ? request : { ...request, vector })).not.toThrow();
  });

  test.each<[IpiRequest['mode'], number | undefined, string]>([
    ['fixed', 15, 'Cannot send fixed: vector is 15 (expected 16 to 255)'],
    ['fixed', undefined, 'Cannot send fixed: vector is missing (expected 16 to 255)'],
    ['lowest-priority', 256, 'Cannot send lowest-priority: vector is 256 (expected 16 to 255)'],
    ['sipi', -1, 'Cannot send sipi: vector is -1 (expected 0 to 255)'],
    ['extint', 16, 'Cannot send extint: vector is 16 (expected 0 to 15)'],
    ['nmi', 2, 'Cannot send nmi: it takes no vector, but vector 2 is given; leave it out'],
  ])('%s with %p is refused', (mode, vector, message) => {
    const request = { destination: 0, mode } as const;
    expect(
      voltErrorOf(() => checkIpiVector(vector === undefined ? request : { ...request, vector })).message,
    ).toBe(message);
  });
});
