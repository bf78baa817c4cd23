import { expect, test } from 'vitest';
import type { Formed } from '../../../src/rpc/generated/orchestrator/v1/Formed.js';
import { Sharing } from '../../../src/rule/sharing.js';

const PLACES = ['a', 'b', 'c'].map((id, rank) => ({
  id,
  host: 'h',
  pid: rank,
  dataAddress: '',
  localAddress: '',
  machine: '',
  sharedMemory: '',
  rank,
  firstSlot: rank,
  endSlot: rank + 1,
}));
const [able, unable, none] = [
  { sharing: { problem: '' } },
  { sharing: { problem: 'off' } },
  { sharing: null },
];

function judge(sharing: Sharing, formed: Formed[], holders: readonly string[] = []) {
  return sharing.judge(PLACES.slice(0, formed.length), formed as Parameters<Sharing['judge']>[1], {
    holders: new Set(holders),
  });
}

test('memory is shared where all can, and not where it is not wanted', () => {
  expect(judge(new Sharing(false), [able, able])).toEqual({ shared: true, note: null });
  expect(judge(new Sharing(false), [none, none])).toEqual({ shared: false, note: null });
});

test('where one cannot, all use gRPC from then on, and the user is told why', () => {
  const sharing = new Sharing(false);
  expect(judge(sharing, [able, unable])).toEqual({
    shared: false,
    note: 'exchange over gRPC, because memory cannot be shared. rank 1 (pid 1 on h): off',
  });
  expect(judge(sharing, [able, able])).toEqual({ shared: false, note: null });
});

test('where there is no other way, the run ends', () => {
  expect(judge(new Sharing(true), [able, unable])).toMatchObject({
    fault: {
      code: 'ERR_SHARED_MEMORY',
      message: 'The workers cannot share memory. rank 1 (pid 1 on h): off',
      hint: 'exchange: auto uses gRPC when memory cannot be shared',
    },
  });
});

test.each([
  ['', false],
  [', also where there is no other way', true],
])('who comes to workers that share memory and cannot does not stay, whichever side says so%s', (_, must) => {
  const sharing = new Sharing(must);
  judge(sharing, [able, able]);
  const holders = ['a', 'b'];
  expect(judge(sharing, [able, able, unable], holders)).toMatchObject({ unable: [{ place: { id: 'c' } }] });
  expect(judge(sharing, [able, unable, unable], holders)).toMatchObject({ unable: [{ place: { id: 'c' } }] });
  expect(judge(sharing, [able, unable])).toMatchObject({ unable: [{ place: { id: 'b' } }] });
  expect(judge(sharing, [unable, unable])).toMatchObject({ fault: { code: 'ERR_SHARED_MEMORY' } });
});

test('after the death of a coordinator, memory is shared if those that hold the state have none of their own', () => {
  const both = ['a', 'b'];
  const own = { sharing: { problem: '' }, held: { step: 4 } };
  expect(judge(new Sharing(false), [own, own], both)).toEqual({ shared: false, note: null });
  const holders = ['a'];
  expect(judge(new Sharing(false), [able, unable], holders)).toMatchObject({
    unable: [{ place: { id: 'b' } }],
  });
});
