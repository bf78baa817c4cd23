import { describe, expect, test } from 'vitest';
import type { Action, Event, Settings } from '../../../src/coordinator/events.js';
import { RunState } from '../../../src/coordinator/state.js';
import type { Prepared, Ready } from '../../../src/rpc/proto.js';

const SETTINGS: Settings = {
  workers: 2,
  welcome: { configJson: '{}', workers: 2, dataToken: 'secret', runDir: 'runs/x' },
  totalSlots: 3,
  steps: 6,
  checkpointEvery: 2,
  validateEvery: 3,
  configHash: 'config',
  lastGeneration: 4,
  resumePath: '',
  resumeStep: 0,
};

const ready = (changes: Partial<Ready> = {}): Ready => ({
  step: 0,
  configHash: 'config',
  datasetHash: 'data',
  stateHash: 'state',
  parameters: 1,
  flopsPerSlot: 1,
  precision: 'fp32',
  validation: [],
  device: '',
  matmulPeak: 0,
  ...changes,
});

function prepared(step: number, slots: number[], changes: Partial<Prepared> = {}): Prepared {
  return {
    step,
    slots: slots.map((slot) => ({
      slot,
      losses: [slot, 1],
      samples: [slot * 2, slot * 2 + 1],
      times: [0.25, 0.75],
    })),
    gradientNorm: 1.5,
    nonFinite: [],
    attention: [],
    gradientNorms: {},
    numbers: {},
    ...changes,
  };
}

/** A run whose clock the test turns. */
class Script {
  readonly state: RunState;
  now = 0;

  constructor(changes: Partial<Settings> = {}) {
    this.state = new RunState({ ...SETTINGS, ...changes });
    this.event({ type: 'listening' });
  }

  event(event: Event): Action[] {
    return this.state.handle(event, this.now);
  }

  join(id: string): Action[] {
    const addresses = { dataAddress: `${id}:1`, sharedMemory: `m/${id}` };
    return this.event({ type: 'joined', id, host: 'h', pid: 100 + id.length, ...addresses });
  }

  /** Joined, formed and ready: b joins before a, and yet a has rank 0. */
  running(): this {
    this.join('b');
    this.join('a');
    for (const id of ['a', 'b']) this.event({ type: 'formed', id, formed: { device: null } });
    for (const id of ['a', 'b']) this.event({ type: 'ready', id, ready: ready({ step: 0 }) });
    return this;
  }

  /** Both prepare a step; slots 0 | 1, 2. */
  step(step: number): Action[] {
    const none = this.event({ type: 'prepared', id: 'b', prepared: prepared(step, [1, 2]) });
    expect(none).toEqual([]);
    return this.event({ type: 'prepared', id: 'a', prepared: prepared(step, [0]) });
  }
}

const end = (actions: Action[]) => actions.find((action) => action.type === 'end');
const sent = (actions: Action[]) => actions.flatMap((action) => (action.type === 'send' ? [action] : []));
const reason = (actions: Action[]) => `${end(actions)?.fault?.code}: ${end(actions)?.fault?.message}`;

describe('from joining to running', () => {
  test('a generation is journalled before it is announced; ranks follow the ids, slots are contiguous', () => {
    const script = new Script();
    expect(script.join('b')).toEqual([
      { type: 'send', to: 'b', message: { generation: 4, welcome: SETTINGS.welcome } },
    ]);
    const actions = script.join('a');
    expect(actions.map(({ type }) => type)).toEqual(['send', 'journal', 'send', 'send']);
    expect(script.state.generation).toBe(5);
    expect(script.state.workers).toMatchObject([
      { id: 'a', rank: 0, firstSlot: 0, endSlot: 1 },
      { id: 'b', rank: 1, firstSlot: 1, endSlot: 3 },
    ]);
    expect(sent(actions)[2]).toMatchObject({ to: 'b', message: { generation: 5, form: { rank: 1 } } });
  });

  test('every phase waits for everybody', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    const [one, other] = ['a', 'b'].map((gpu) => ({ gpu, library: 'NCCL', uniqueId: '', problem: '' }));
    expect(script.event({ type: 'formed', id: 'a', formed: { device: one! } })).toEqual([]);
    expect(script.state.phase).toBe('FORMING');
    const formed: Event = { type: 'formed', id: 'b', formed: { device: other! } };
    expect(sent(script.event(formed))[0]?.message.sync).toEqual({ checkpoint: '', devices: [one, other] });
    expect(script.state.phase).toBe('SYNCING');
    expect(script.event({ type: 'ready', id: 'a', ready: ready() })).toEqual([]);
    const actions = script.event({ type: 'ready', id: 'b', ready: ready() });
    expect(sent(actions)[0]?.message.start).toEqual({ firstStep: 1 });
    expect(script.state.phase).toBe('RUNNING');
  });

  test.each([
    [
      'config',
      { configHash: 'x' },
      'The config of rank 1 (pid 101 on h) is x, that of the coordinator config',
    ],
    [
      'data',
      { datasetHash: 'x' },
      'The data set of rank 1 (pid 101 on h) is x, that of rank 0 (pid 101 on h) data',
    ],
    ['state', { stateHash: 'x' }, 'The state of rank 1'],
    [
      'step',
      { step: 9 },
      'The step of the loaded state of rank 1 (pid 101 on h) is 9, that of the coordinator 0',
    ],
  ])('another %s refuses the run', (_, changes, message) => {
    const script = new Script();
    script.join('a');
    script.join('b');
    for (const id of ['a', 'b']) script.event({ type: 'formed', id, formed: { device: null } });
    script.event({ type: 'ready', id: 'a', ready: ready() });
    const actions = script.event({ type: 'ready', id: 'b', ready: ready(changes) });
    expect(reason(actions)).toContain(`ERR_STATE_MISMATCH: ${message}`);
    expect(sent(actions)[0]?.message.stop).toMatchObject({ exitCode: 1 });
  });

  test('a resumed run goes on after its step; a finished one is done', () => {
    const resumed = (resumeStep: number) => {
      const script = new Script({ resumePath: 'p', resumeStep });
      script.join('a');
      script.join('b');
      for (const id of ['a', 'b']) script.event({ type: 'formed', id, formed: { device: null } });
      script.event({ type: 'ready', id: 'a', ready: ready({ step: resumeStep }) });
      return script.event({ type: 'ready', id: 'b', ready: ready({ step: resumeStep }) });
    };
    expect(sent(resumed(4))[0]?.message.start).toEqual({ firstStep: 5 });
    expect(end(resumed(6))).toMatchObject({ exitCode: 0, fault: null });
  });

  test('a third worker is refused', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    expect(script.join('c')).toMatchObject([
      { type: 'refuse', message: 'worker c joined while the run is FORMING' },
    ]);
  });
});

describe('the step rule', () => {
  test('everything is on disk before a checkpoint is asked for', () => {
    const actions = new Script({ checkpointEvery: 1 }).running().step(1);
    expect(actions.map(({ type }) => type)).toEqual(['commit', 'record', 'syncRecords', 'send']);
  });

  test('a step is in the ledger before its commit is sent, and only when all have prepared', () => {
    const actions = new Script().running().step(1);
    expect(actions.map(({ type }) => type)).toEqual(['commit', 'send', 'record']);
    expect(actions[0]).toMatchObject({ step: 1 });
    expect(sent(actions)[0]?.message.commit).toEqual({ validate: false, checkpoint: false, stop: false });
  });

  test('validations, checkpoints and the end come when they are due', () => {
    const script = new Script().running();
    const commits = [1, 2, 3, 4, 5, 6].map((step) => sent(script.step(step))[0]?.message.commit);
    expect(commits.map((commit) => [commit?.validate, commit?.checkpoint, commit?.stop])).toEqual([
      [false, false, false],
      [false, true, false],
      [true, false, false],
      [false, true, false],
      [false, false, false],
      [true, true, true],
    ]);
    expect(script.state.phase).toBe('CHECKPOINTING');
    expect(script.event({ type: 'finished', id: 'a', finished: {} })).toEqual([]);
    expect(end(script.event({ type: 'finished', id: 'b', finished: {} }))).toMatchObject({
      exitCode: 0,
      fault: null,
    });
    expect(script.state.phase).toBe('DONE');
  });

  test('prepared steps are handed on in the order of ranks', () => {
    const [commit] = new Script().running().step(1);
    expect(
      commit?.type === 'commit' && commit.prepared.map(({ slots }) => slots.map(({ slot }) => slot)),
    ).toEqual([[0], [1, 2]]);
  });

  test('norms that differ in the last bit refuse the step', () => {
    const script = new Script().running();
    script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) });
    const other = prepared(1, [1, 2], { gradientNorm: 1.5 + 2 ** -52 });
    const actions = script.event({ type: 'prepared', id: 'b', prepared: other });
    expect(reason(actions)).toMatch(/ERR_STATE_MISMATCH: The gradient's norm at step 1 is 1.5 on rank 0/);
    expect(actions.some(({ type }) => type === 'commit')).toBe(false);
  });

  test('a gradient that is not finite names step, rank, slot, samples and tensor', () => {
    const script = new Script().running();
    const bad = prepared(1, [1, 2], {
      gradientNorm: Number.NaN,
      nonFinite: [{ slot: 2, tensor: 'x_embedder' }],
    });
    script.event({ type: 'prepared', id: 'b', prepared: bad });
    const good = prepared(1, [0], { gradientNorm: Number.NaN });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: good }))).toBe(
      'ERR_NON_FINITE: Step 1 was refused: NaN or infinity in the gradient of rank 1 (pid 101 on h), slot 2, samples 4 5, first in x_embedder',
    );
  });

  test('where losses tell the sample, only that one is named', () => {
    const script = new Script().running();
    const bad = prepared(1, [1, 2], { gradientNorm: Number.NaN, nonFinite: [{ slot: 1, tensor: 't' }] });
    (bad.slots[0] as { losses: number[] }).losses = [0, Number.POSITIVE_INFINITY];
    script.event({ type: 'prepared', id: 'b', prepared: bad });
    const good = prepared(1, [0], { gradientNorm: Number.NaN });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: good }))).toContain(
      'samples 3, first in t',
    );
  });

  test('missing and doubled slots, other steps and second answers are refused', () => {
    const answer = (answers: Prepared[]) => {
      const script = new Script().running();
      let actions: Action[] = [];
      for (const [i, of] of answers.entries()) {
        actions = script.event({ type: 'prepared', id: i === 0 ? 'a' : 'b', prepared: of });
      }
      return reason(actions);
    };
    expect(answer([prepared(1, [0]), prepared(1, [1])])).toContain(
      'ERR_PROTOCOL: Slots 0 to 2 were expected',
    );
    expect(answer([prepared(1, [0]), prepared(1, [0, 1])])).toContain('but the workers reported 0, 0, 1');
    expect(answer([prepared(2, [0])])).toContain(
      'sent Prepared of step 2 while the run is RUNNING at step 1',
    );
    const script = new Script().running();
    script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) }))).toContain(
      'ERR_PROTOCOL',
    );
  });

  test('weights that differ after a checkpoint end the run', () => {
    const script = new Script().running();
    script.step(1);
    script.step(2);
    expect(script.event({ type: 'applied', id: 'a', applied: { step: 2, stateHash: 'x' } })).toEqual([]);
    const actions = script.event({ type: 'applied', id: 'b', applied: { step: 2, stateHash: 'y' } });
    expect(reason(actions)).toMatch(
      /ERR_STATE_MISMATCH: The state of rank 1 .* and of rank 0 .* differ after step 2/,
    );
    expect(end(actions)?.fault?.hint).toBe('Resume from a checkpoint before it');
  });

  test('a validation is handed on when all parts are there', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3]) script.step(step);
    const part = { step: 3, losses: [], emaDistance: 0 };
    expect(script.event({ type: 'validated', id: 'b', validated: part })).toEqual([]);
    expect(script.event({ type: 'validated', id: 'a', validated: part })).toMatchObject([
      { type: 'validation', step: 3 },
    ]);
  });
});

describe('stopping', () => {
  test('while running: the step is finished and saved, then the exit code is the asked one', () => {
    const script = new Script().running();
    expect(script.event({ type: 'stop', exitCode: 143, reason: 'told' })).toEqual([]);
    expect(script.state.phase).toBe('DRAINING');
    expect(sent(script.step(1))[0]?.message.commit).toMatchObject({
      checkpoint: true,
      stop: true,
      validate: false,
    });
    script.event({ type: 'finished', id: 'a', finished: {} });
    expect(end(script.event({ type: 'finished', id: 'b', finished: {} }))).toMatchObject({
      exitCode: 143,
      reason: 'told',
    });
  });

  test('before the first step there is nothing to save', () => {
    const script = new Script();
    script.join('a');
    expect(end(script.event({ type: 'stop', exitCode: 130, reason: 'interrupted' }))).toMatchObject({
      exitCode: 130,
    });
  });

  test('after the last commit the run ends as it would have', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3, 4, 5, 6]) script.step(step);
    script.event({ type: 'stop', exitCode: 130, reason: 'interrupted' });
    script.event({ type: 'finished', id: 'a', finished: {} });
    expect(end(script.event({ type: 'finished', id: 'b', finished: {} }))).toMatchObject({ exitCode: 0 });
  });
});

describe('failures', () => {
  test('a lost worker is named; the others are told to stop', () => {
    const script = new Script().running();
    script.step(1);
    const actions = script.event({ type: 'lost', id: 'b', reason: 'its connection was reset' });
    expect(reason(actions)).toBe(
      'ERR_WORKER_LOST: Lost rank 1 (pid 101 on h) at step 2: its connection was reset',
    );
    expect(script.state.phase).toBe('FAILED');
    expect(script.event({ type: 'tick' })).toEqual([]);
  });

  test('a worker that has finished may go', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3, 4, 5, 6]) script.step(step);
    script.event({ type: 'finished', id: 'a', finished: {} });
    expect(script.event({ type: 'lost', id: 'a', reason: 'exited' })).toEqual([]);
  });

  test('a process that ends before it joined', () => {
    const script = new Script();
    expect(reason(script.event({ type: 'exited', id: 'a', exit: 'ended with exit code 1' }))).toBe(
      'ERR_WORKER_LOST: Worker a ended with exit code 1 before it joined',
    );
  });

  test('silence is death after 3 s; any message is a sign of life', () => {
    const script = new Script().running();
    const pass = (ms: number) => {
      let actions: Action[] = [];
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 250;
        script.event({ type: 'heartbeat', id: 'a', heartbeat: {} });
        actions = script.event({ type: 'tick' });
        if (actions.length > 0) break;
      }
      return actions;
    };
    expect(pass(3_000)).toEqual([]);
    script.event({ type: 'heartbeat', id: 'b', heartbeat: {} });
    expect(pass(3_000)).toEqual([]);
    expect(reason(pass(250))).toMatch(/Lost rank 1 .* at step 1: no sign of life for 3\.3 s/);
  });

  test('a pause of the coordinator itself kills nobody', () => {
    const script = new Script().running();
    script.now += 60_000;
    expect(script.event({ type: 'tick' })).toEqual([]);
  });

  test('heartbeats alone are no progress', () => {
    const script = new Script().running();
    const wait = (ms: number) => {
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 500;
        for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: {} });
        const actions = script.event({ type: 'tick' });
        if (actions.length > 0) return actions;
      }
      return [];
    };
    // The first step may take long; the second has a limit.
    expect(wait(600_000)).toEqual([]);
    script.step(1);
    script.event({ type: 'prepared', id: 'a', prepared: prepared(2, [0]) });
    expect(wait(119_000)).toEqual([]);
    expect(reason(wait(5_000))).toMatch(
      /ERR_PROGRESS: Step 2 is still waiting for rank 1 \(pid 101 on h\) after 12\d s$/,
    );
  });

  test('workers that do not come', () => {
    const script = new Script();
    script.join('a');
    let actions: Action[] = [];
    while (actions.length === 0 && script.now < 100_000) {
      script.now += 500;
      script.event({ type: 'heartbeat', id: 'a', heartbeat: {} });
      actions = script.event({ type: 'tick' });
    }
    expect(reason(actions)).toBe('ERR_JOIN_TIMEOUT: 1 of 2 workers joined within 60 s');
  });

  test('an error of a worker keeps its code and hint, and names the worker', () => {
    const failure = (code: string, hint: string) =>
      end(
        new Script().running().event({ type: 'failure', id: 'b', failure: { code, message: 'off', hint } }),
      );
    const message = 'rank 1 (pid 101 on h): off';
    expect(failure('ERR_CUDA', 'turn it on')).toMatchObject({
      exitCode: 1,
      fault: { code: 'ERR_CUDA', message, hint: 'turn it on' },
    });
    expect(failure('ERR_CUDA', '')?.fault).toEqual({ code: 'ERR_CUDA', message, hint: null });
    expect(failure('ERR_OF_NOBODY', '')?.fault?.code).toBe('ERR_INTERNAL');
  });

  test('a signal to a worker stops the run', () => {
    const script = new Script().running();
    script.event({ type: 'stopRequest', id: 'b', stopRequest: { exitCode: 143 } });
    script.step(1);
    script.event({ type: 'finished', id: 'a', finished: {} });
    expect(end(script.event({ type: 'finished', id: 'b', finished: {} }))).toMatchObject({
      exitCode: 143,
      reason: 'worker b received a signal to stop',
    });
  });

  test('a record that cannot be written ends the run without a commit', () => {
    const script = new Script().running();
    const fault = { code: 'ERR_FILE_WRITE', message: 'full', hint: 'Free some space' } as const;
    const actions = script.event({ type: 'actionFailed', fault });
    expect(end(actions)?.fault).toEqual(fault);
    expect(actions.some(({ type }) => type === 'commit')).toBe(false);
  });
});
