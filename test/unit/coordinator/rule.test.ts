import { describe, expect, test } from 'vitest';
import type { Action, Event, Settings } from '../../../src/coordinator/events.js';
import { RunState } from '../../../src/coordinator/rule.js';
import type { Prepared, Ready } from '../../../src/rpc/proto.js';

const SETTINGS: Settings = {
  workers: 2,
  minWorkers: 2,
  maxWorkers: 2,
  patienceMs: 0,
  welcome: { configJson: '{}', workers: 2, runDir: 'runs/x', planJson: '[]' },
  totalSlots: 3,
  steps: 6,
  checkpointEvery: 2,
  validateEvery: 3,
  configHash: 'config',
  lastGeneration: 4,
  resumePath: '',
  resumeStep: 0,
  supervised: false,
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
      skipped: [],
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

  standby(id: string): Action[] {
    return this.event({ type: 'standby', id, standby: {} });
  }

  /** Both have joined and built: b before a, and yet a has rank 0. Returns the actions of the last event. */
  forming(): Action[] {
    this.join('b');
    this.join('a');
    this.standby('b');
    return this.standby('a');
  }

  /** Joined, formed and ready. */
  running(step = 0): this {
    this.forming();
    for (const id of ['a', 'b']) this.event({ type: 'formed', id, formed: { device: null, held: null } });
    for (const id of ['a', 'b']) this.event({ type: 'ready', id, ready: ready({ step }) });
    return this;
  }

  /** Both have validated if that was ordered, and prepare a step; slots 0 | 1, 2. */
  step(step: number): Action[] {
    for (const id of ['a', 'b']) this.validated(id, step - 1);
    const none = this.event({ type: 'prepared', id: 'b', prepared: prepared(step, [1, 2]) });
    expect(none).toEqual([]);
    return this.event({ type: 'prepared', id: 'a', prepared: prepared(step, [0]) });
  }

  applied(id: string, step: number, stateHash = 'same'): Action[] {
    return this.event({ type: 'applied', id, applied: { step, stateHash } });
  }

  /** Rank 0 has staged the checkpoint of the step. */
  saved(step: number, id = 'a'): Action[] {
    return this.event({ type: 'saved', id, saved: staged(step) });
  }

  notSaved(step: number): Action[] {
    const failure = { code: 'ERR_CHECKPOINT_WRITE', message: 'full', hint: 'Free some space', fatal: true };
    return this.event({ type: 'notSaved', id: 'a', notSaved: { step, failure } });
  }

  /** All workers apply the step, and rank 0 stages its checkpoint, which is published. */
  checkpoint(step: number): Action[] {
    this.applied('b', step);
    this.applied('a', step);
    expect(this.saved(step)).toEqual([{ type: 'publish', saved: staged(step) }]);
    return this.published(step);
  }

  published(step: number): Action[] {
    const checkpoint = { step, path: `step-${step}`, seconds: 1, stallSeconds: 0, bytes: 1 };
    const [saved, ...others] = this.event({ type: 'published', checkpoint });
    expect(saved).toEqual({ type: 'saved', checkpoint });
    return others;
  }

  validated(id: string, step: number): Action[] {
    const part = { step, losses: [], seconds: 1, abandoned: false, emaDistance: 0 };
    return this.event({ type: 'validated', id, validated: part });
  }

  /** The worker has followed the orders after the last step. */
  finished(id: string, step: number): Action[] {
    this.applied(id, step);
    this.validated(id, step);
    return this.event({ type: 'finished', id, finished: {} });
  }

  finish(step: number): Action[] {
    this.finished('a', step);
    return this.finished('b', step);
  }
}

const staged = (step: number) => ({
  step,
  folder: `.partial-${step}`,
  seconds: 1,
  stallSeconds: 0,
  bytes: 1,
});

const end = (actions: Action[]) => actions.find((action) => action.type === 'end');
const sent = (actions: Action[]) => actions.flatMap((action) => (action.type === 'send' ? [action] : []));
const reason = (actions: Action[]) => `${end(actions)?.fault?.code}: ${end(actions)?.fault?.message}`;

describe('from joining to running', () => {
  test('a generation is journalled before it is announced; ranks follow the ids, slots are contiguous', () => {
    const script = new Script();
    expect(script.join('b')).toEqual([
      { type: 'send', to: ['b'], message: { generation: 4, welcome: SETTINGS.welcome } },
    ]);
    expect(sent(script.join('a'))).toMatchObject([{ to: ['a'], message: { welcome: {} } }]);
    expect(script.standby('a')).toEqual([]);
    expect(script.state.phase).toBe('JOINING');
    const actions = script.standby('b');
    expect(actions.map(({ type }) => type)).toEqual(['journal', 'send', 'send']);
    expect(script.state.generation).toBe(5);
    expect(script.state.places).toMatchObject([
      { id: 'a', rank: 0, firstSlot: 0, endSlot: 1 },
      { id: 'b', rank: 1, firstSlot: 1, endSlot: 3 },
    ]);
    expect(sent(actions)[1]).toMatchObject({ to: ['b'], message: { generation: 5, form: { rank: 1 } } });
  });

  test('every phase waits for everybody', () => {
    const script = new Script();
    script.forming();
    const [one, other] = ['a', 'b'].map((gpu) => ({ gpu, library: 'NCCL', uniqueId: '', problem: '' }));
    expect(script.event({ type: 'formed', id: 'a', formed: { device: one!, held: null } })).toEqual([]);
    expect(script.state.phase).toBe('FORMING');
    const formed: Event = { type: 'formed', id: 'b', formed: { device: other!, held: null } };
    expect(sent(script.event(formed))[0]?.message.sync).toEqual({ initialise: {}, devices: [one, other] });
    expect(script.state.phase).toBe('SYNCING');
    expect(script.event({ type: 'ready', id: 'a', ready: ready() })).toEqual([]);
    const actions = script.event({ type: 'ready', id: 'b', ready: ready() });
    expect(sent(actions)[0]?.message.start).toEqual({
      step: 0,
      validate: false,
      checkpoint: false,
      stop: false,
    });
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
    script.forming();
    for (const id of ['a', 'b']) script.event({ type: 'formed', id, formed: { device: null, held: null } });
    script.event({ type: 'ready', id: 'a', ready: ready() });
    const actions = script.event({ type: 'ready', id: 'b', ready: ready(changes) });
    expect(reason(actions)).toContain(`ERR_STATE_MISMATCH: ${message}`);
    expect(sent(actions)[0]?.message.stop).toMatchObject({ exitCode: 1 });
  });

  test('a resumed run goes on after its step', () => {
    const script = new Script({ resumePath: 'p', resumeStep: 4 });
    script.forming();
    for (const id of ['a', 'b']) script.event({ type: 'formed', id, formed: { device: null, held: null } });
    script.event({ type: 'ready', id: 'a', ready: ready({ step: 4 }) });
    const actions = script.event({ type: 'ready', id: 'b', ready: ready({ step: 4 }) });
    expect(sent(actions)[0]?.message.start).toMatchObject({ step: 4, stop: false });
  });

  test('a third worker is refused, while the others build and later', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    const refused = [
      { type: 'refuse', id: 'c', message: 'worker c is one too many: all 2 workers have joined' },
    ];
    expect(script.join('c')).toEqual(refused);
    script.standby('a');
    script.standby('b');
    expect(script.state.phase).toBe('FORMING');
    expect(script.join('c')).toEqual(refused);
  });

  test('building may take long: the user is told who still builds, and after half an hour it ends', () => {
    const script = new Script();
    script.now = 50_000;
    script.join('a');
    script.now = 59_000;
    script.join('b');
    script.standby('a');
    const began = script.now;
    const notes: string[] = [];
    let actions: Action[] = [];
    while (end(actions) === undefined && script.now < began + 2_000_000) {
      script.now += 500;
      for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: { validated: 0 } });
      actions = script.event({ type: 'tick' });
      for (const action of actions) if (action.type === 'note') notes.push(action.message);
    }
    const building = 'still opening the data or building the model: worker b (pid 101 on h)';
    expect(notes).toEqual([30, 60, 120, 240, 480, 960].map((seconds) => `after ${seconds} s ${building}`));
    expect(reason(actions)).toBe(
      'ERR_JOIN_TIMEOUT: These workers were still opening the data or building the model after 1801 s: ' +
        'worker b (pid 101 on h)',
    );
  });

  test('a worker that is lost while it builds is named', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    script.standby('b');
    expect(reason(script.event({ type: 'lost', id: 'a', reason: 'its connection was reset' }))).toBe(
      'ERR_WORKER_LOST: Lost worker a (pid 101 on h): its connection was reset',
    );
  });

  test('who stands by twice is one worker', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    script.standby('a');
    expect(script.standby('a')).toEqual([]);
    expect(script.state.phase).toBe('JOINING');
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
    expect(sent(actions)[0]?.message.commit).toEqual({
      step: 1,
      validate: false,
      checkpoint: false,
      stop: false,
    });
  });

  test('validations, checkpoints and the end come when they are due', () => {
    const script = new Script().running();
    const commits = [1, 2, 3, 4, 5, 6].map((step) => {
      const actions = script.step(step);
      const commit = sent(actions)[0]?.message.commit;
      // What is recorded says it, too: alerts allow a validation its time.
      expect(actions).toContainEqual(expect.objectContaining({ type: 'record', validate: commit?.validate }));
      if (commit?.checkpoint && !commit.stop) script.checkpoint(step);
      return commit;
    });
    expect(commits.map((commit) => [commit?.validate, commit?.checkpoint, commit?.stop])).toEqual([
      [false, false, false],
      [false, true, false],
      [true, false, false],
      [false, true, false],
      [false, false, false],
      [true, true, true],
    ]);
    expect(script.state.phase).toBe('CHECKPOINTING');
    expect(script.checkpoint(6)).toEqual([]);
    expect(script.finished('a', 6)).toEqual([]);
    expect(end(script.finished('b', 6))).toMatchObject({ exitCode: 0, fault: null });
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

  test('a gradient that is not finite names step, rank, slot, rows and tensor', () => {
    const script = new Script().running();
    const bad = prepared(1, [1, 2], {
      gradientNorm: Number.NaN,
      nonFinite: [{ slot: 2, tensor: 'x_embedder' }],
    });
    script.event({ type: 'prepared', id: 'b', prepared: bad });
    const good = prepared(1, [0], { gradientNorm: Number.NaN });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: good }))).toBe(
      'ERR_NON_FINITE: Step 1 was refused: NaN or infinity in the gradient of rank 1 (pid 101 on h), slot 2, rows 4, 5, first in x_embedder',
    );
  });

  test('where losses tell the sample, only that one is named', () => {
    const script = new Script().running();
    const bad = prepared(1, [1, 2], { gradientNorm: Number.NaN, nonFinite: [{ slot: 1, tensor: 't' }] });
    (bad.slots[0] as { losses: number[] }).losses = [0, Number.POSITIVE_INFINITY];
    script.event({ type: 'prepared', id: 'b', prepared: bad });
    const good = prepared(1, [0], { gradientNorm: Number.NaN });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: good }))).toContain(
      'rows 3, first in t',
    );
  });

  test('missing and doubled slots and later steps are refused; a second answer changes nothing', () => {
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
    expect(script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) })).toEqual([]);
    expect(script.event({ type: 'prepared', id: 'b', prepared: prepared(1, [1, 2]) })).toMatchObject([
      { type: 'commit', step: 1 },
      { type: 'send' },
      { type: 'record' },
    ]);
  });

  test('a validation is handed on when all parts are there', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3]) script.step(step);
    const part = { step: 3, losses: [], seconds: 1, abandoned: false, emaDistance: 0 };
    expect(script.event({ type: 'validated', id: 'b', validated: part })).toEqual([]);
    expect(script.event({ type: 'validated', id: 'a', validated: part })).toMatchObject([
      { type: 'validation', step: 3 },
    ]);
  });
});

describe('checkpoints', () => {
  const missed = (actions: Action[]) =>
    actions.flatMap((action) => (action.type === 'notSaved' ? [action.missed] : []));
  /** A run whose step 2 is committed, with its checkpoint requested. */
  const requested = (changes: Partial<Settings> = {}) => {
    const script = new Script(changes).running();
    script.step(1);
    expect(sent(script.step(2))[0]?.message.commit?.checkpoint).toBe(true);
    return script;
  };
  const publish = [{ type: 'publish', saved: staged(2) }];

  test('are published when all workers hold the state that rank 0 has staged, whichever comes last', () => {
    const slowDisk = requested();
    expect(slowDisk.applied('b', 2)).toEqual([]);
    expect(slowDisk.applied('a', 2)).toEqual([]);
    expect(slowDisk.saved(2)).toEqual(publish);
    const slowWorker = requested();
    expect(slowWorker.applied('a', 2)).toEqual([]);
    expect(slowWorker.saved(2)).toEqual([]);
    expect(slowWorker.applied('b', 2)).toEqual(publish);
  });

  test('of a state that is not the same everywhere are not published, and the run ends', () => {
    const script = requested();
    script.applied('a', 2, 'x');
    script.saved(2);
    const actions = script.applied('b', 2, 'y');
    expect(actions.map(({ type }) => type)).toEqual(['send', 'end']);
    expect(reason(actions)).toMatch(
      /ERR_STATE_MISMATCH: The state of rank 1 .* and of rank 0 .* differ after step 2; its checkpoint is discarded/,
    );
    expect(script.saved(2)).toEqual([]);
  });

  test('a state that differs is found also where the checkpoint could not be written', () => {
    const script = requested();
    script.notSaved(2);
    script.applied('a', 2, 'x');
    expect(reason(script.applied('b', 2, 'y'))).toContain('ERR_STATE_MISMATCH');
  });

  test('the hint names what the same command resumes from', () => {
    const hintOf = (script: Script, step: number) => {
      script.applied('a', step, 'x');
      return end(script.applied('b', step, 'y'))?.fault?.hint;
    };
    expect(hintOf(requested(), 2)).toMatch(
      /^There is no checkpoint yet: the same command starts from the beg/,
    );
    const second = requested();
    second.checkpoint(2);
    second.step(3);
    second.step(4);
    expect(hintOf(second, 4)).toMatch(
      /^The last checkpoint is that of step 2: --resume auto, the default, goes on from there/,
    );
    const resumed = new Script({ resumePath: 'runs/x/checkpoints/step-00000003', resumeStep: 3 });
    resumed.join('a');
    resumed.join('b');
    for (const id of ['a', 'b']) resumed.standby(id);
    for (const id of ['a', 'b']) resumed.event({ type: 'formed', id, formed: { device: null, held: null } });
    for (const id of ['a', 'b']) resumed.event({ type: 'ready', id, ready: ready({ step: 3 }) });
    resumed.step(4);
    expect(hintOf(resumed, 4)).toContain('resumes from runs/x/checkpoints/step-00000003 (step 3)');
  });

  test('one that fails is a warning, and the next is requested when it is due', () => {
    const script = requested();
    expect(missed(script.notSaved(2))).toEqual([
      {
        step: 2,
        reason: 'failed',
        fault: {
          code: 'ERR_CHECKPOINT_WRITE',
          message: 'full',
          hint: 'Free some space. Training goes on. There is no checkpoint yet: the same command starts from the beginning',
        },
      },
    ]);
    script.applied('a', 2);
    expect(script.applied('b', 2)).toEqual([]);
    script.step(3);
    expect(sent(script.step(4))[0]?.message.commit?.checkpoint).toBe(true);
    expect(script.checkpoint(4)).toEqual([]);
  });

  test('one that is staged and cannot be published is a warning, too', () => {
    const script = requested();
    script.applied('a', 2);
    script.applied('b', 2);
    script.saved(2);
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'gone', hint: null } as const;
    const [what] = missed(script.event({ type: 'notPublished', step: 2, fault }));
    expect(what).toMatchObject({ step: 2, reason: 'failed', fault: { message: 'gone' } });
    expect(script.state.phase).toBe('RUNNING');
  });

  test('one that is due while another is being written is left out with a warning', () => {
    const script = requested();
    script.applied('a', 2);
    script.applied('b', 2);
    script.step(3);
    const actions = script.step(4);
    expect(sent(actions)[0]?.message.commit?.checkpoint).toBe(false);
    expect(missed(actions)).toMatchObject([
      { step: 4, reason: 'skipped', fault: { message: expect.stringContaining('that of step 2 is still') } },
    ]);
    expect(script.saved(2)).toEqual(publish);
    script.published(2);
    script.step(5);
    expect(sent(script.step(6))[0]?.message.commit?.checkpoint).toBe(true);
  });

  test('the last is written also where another is still being written, and the end waits for it', () => {
    const script = requested({ steps: 4 });
    script.applied('a', 2);
    script.applied('b', 2);
    script.step(3);
    expect(sent(script.step(4))[0]?.message.commit).toMatchObject({ checkpoint: true, stop: true });
    expect(script.saved(2)).toEqual(publish);
    script.applied('a', 4);
    script.applied('b', 4);
    expect(script.saved(4)).toEqual([{ type: 'publish', saved: staged(4) }]);
    expect(script.finish(4)).toEqual([]);
    expect(script.published(2)).toEqual([]);
    expect(end(script.published(4))).toMatchObject({ exitCode: 0, fault: null });
  });

  test('the failure of the last is that of the run; that of the one before is not', () => {
    const script = requested({ steps: 4 });
    script.applied('a', 2);
    script.applied('b', 2);
    script.step(3);
    script.step(4);
    expect(missed(script.notSaved(2))).toMatchObject([{ step: 2 }]);
    expect(end(script.notSaved(4))).toMatchObject({
      exitCode: 1,
      fault: {
        code: 'ERR_CHECKPOINT_WRITE',
        message: 'full',
        hint: 'Free some space. There is no checkpoint yet: the same command starts from the beginning',
      },
    });
    expect(script.state.phase).toBe('FAILED');
  });

  test('the failure of the last waits for one that is being published, from which the run resumes', () => {
    const script = requested({ steps: 4 });
    script.applied('a', 2);
    script.applied('b', 2);
    script.saved(2);
    script.step(3);
    script.step(4);
    expect(script.notSaved(4)).toEqual([]);
    const published: Event = { type: 'published', checkpoint: { ...staged(2), path: 'p', bytes: 1 } };
    expect(end(script.event(published))?.fault?.hint).toContain('The last checkpoint is that of step 2:');
  });

  test('that nobody requested, or of another rank, are not published', () => {
    const script = requested();
    for (const id of ['a', 'b']) script.applied(id, 2);
    expect([script.saved(1), script.notSaved(1), script.saved(2, 'b')]).toEqual([[], [], []]);
    expect(script.saved(2)).toEqual(publish);
  });

  test('the last may take as long as its writing goes on', () => {
    const script = requested({ steps: 2 });
    for (const id of ['a', 'b']) script.applied(id, 2);
    script.finished('b', 2);
    const wait = (ms: number, writing: boolean) => {
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 1_000;
        for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: { validated: 0 } });
        if (writing) script.event({ type: 'saving', id: 'a', saving: {} });
        const actions = script.event({ type: 'tick' });
        if (actions.length > 0) return actions;
      }
      return [];
    };
    expect(wait(7_200_000, true)).toEqual([]);
    expect(reason(wait(7_200_000, false))).toMatch(
      /ERR_PROGRESS: These workers did not finish after the last step: rank 0/,
    );
  });
});

describe('stopping', () => {
  test('while running: the step is finished and saved, then the exit code is the asked one', () => {
    const script = new Script().running();
    const stop = { type: 'stop', exitCode: 143, reason: 'told' } as const;
    expect(script.event(stop)).toMatchObject([
      { type: 'stopping', reason: 'told' },
      { type: 'send', to: null, message: { drain: {} } },
    ]);
    expect(script.state.phase).toBe('DRAINING');
    // Neither another signal nor one to a worker changes anything.
    expect(script.event({ ...stop, exitCode: 130 })).toEqual([]);
    expect(script.event({ type: 'leave', id: 'b', leave: { exitCode: 138 } })).toEqual([]);
    expect(sent(script.step(1))[0]?.message.commit).toMatchObject({
      checkpoint: true,
      stop: true,
      validate: false,
    });
    script.checkpoint(1);
    expect(end(script.finish(1))).toMatchObject({ exitCode: 143, reason: 'told' });
    expect(script.state.phase).toBe('STOPPED');
  });

  test.each([
    [[129, 143], 143],
    [[143, 129, 138], 143],
    [[138, 130], 138],
  ])(
    'signals that lead to %j: the exit code is %i, that of SIGTERM if it is among them',
    (codes, expected) => {
      const script = new Script().running();
      for (const exitCode of codes) script.event({ type: 'stop', exitCode, reason: `told ${exitCode}` });
      script.step(1);
      script.checkpoint(1);
      const ending = { exitCode: expected, reason: `told ${expected}` };
      expect(end(script.finish(1))).toMatchObject(ending);
    },
  );

  test('a validation that is due at the step after which the run stops is left out', () => {
    const script = new Script({ validateEvery: 1 }).running();
    expect(sent(script.step(1))[0]?.message.commit).toMatchObject({ validate: true });
    script.event({ type: 'stop', exitCode: 143, reason: 'told' });
    expect(sent(script.step(2))[0]?.message.commit).toMatchObject({ validate: false, stop: true });
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
    script.checkpoint(2);
    script.checkpoint(6);
    // The last validation is abandoned all the same.
    expect(sent(script.event({ type: 'stop', exitCode: 130, reason: 'interrupted' }))[0]?.message).toEqual({
      generation: 5,
      drain: {},
    });
    expect(end(script.finish(6))).toMatchObject({ exitCode: 0 });
    expect(script.state.phase).toBe('DONE');
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
    for (const id of ['a', 'b']) script.applied(id, 2);
    script.saved(2);
    script.finished('a', 6);
    script.saved(6);
    expect(script.event({ type: 'lost', id: 'a', reason: 'exited' })).toEqual([]);
  });

  const killed = (signal: NodeJS.Signals, outOfMemory = false) => ({ code: null, signal, outOfMemory });
  const ended = (code: number) => ({ code, signal: null, outOfMemory: false });

  test("the launcher's word on how a process ended is better than the end of its session", () => {
    const script = new Script({ supervised: true }).running();
    script.step(1);
    expect(script.event({ type: 'lost', id: 'b', reason: 'it ended its session' })).toEqual([]);
    // The others say that they lost a peer.
    const failure = { code: 'ERR_EXCHANGE', message: 'reset', hint: '', fatal: true };
    expect(script.event({ type: 'failure', id: 'a', failure })).toEqual([]);
    const actions = script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: false });
    expect(end(actions)?.fault).toMatchObject({
      code: 'ERR_WORKER_LOST',
      message: 'rank 1 (pid 101 on h) was killed by SIGKILL at step 2 (out of memory?)',
      hint: 'There is no checkpoint yet: the same command starts from the beginning',
    });
  });

  test('the word of the launcher may come first', () => {
    const script = new Script({ supervised: true }).running();
    for (const step of [1, 2]) script.step(step);
    script.checkpoint(2);
    const actions = script.event({ type: 'exited', id: 'b', exit: killed('SIGSEGV'), again: false });
    expect(end(actions)?.fault).toMatchObject({
      message: 'rank 1 (pid 101 on h) crashed with SIGSEGV at step 3',
      hint: 'The last checkpoint is that of step 2: --resume auto, the default, goes on from there',
    });
  });

  test('a checkpoint that is published while the word is awaited is what the run resumes from', () => {
    const script = new Script({ supervised: true }).running();
    script.step(1);
    script.step(2);
    script.event({ type: 'lost', id: 'b', reason: 'its connection was reset' });
    const checkpoint = { step: 2, path: 'x', bytes: 1, seconds: 1, stallSeconds: 0 };
    expect(script.event({ type: 'published', checkpoint })).toEqual([{ type: 'saved', checkpoint }]);
    expect(
      end(script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: false }))?.fault?.hint,
    ).toContain('The last checkpoint is that of step 2');
  });

  test('if the launcher says nothing, the lost session is the reason', () => {
    const script = new Script({ supervised: true, resumePath: 'runs/x/c', resumeStep: 3 }).running(3);
    script.event({ type: 'lost', id: 'b', reason: 'its connection was reset' });
    script.now += 3_000;
    expect(script.event({ type: 'tick' })).toEqual([]);
    script.now += 250;
    expect(end(script.event({ type: 'tick' }))?.fault).toMatchObject({
      message: 'Lost rank 1 (pid 101 on h) at step 4: its connection was reset',
      hint: 'No checkpoint was written since the run was resumed: the same command resumes from runs/x/c (step 3)',
    });
  });

  test('a process that ends before it joined', () => {
    const script = new Script();
    expect(reason(script.event({ type: 'exited', id: 'a', exit: ended(1), again: false }))).toBe(
      'ERR_WORKER_LOST: worker a ended with exit code 1 before it joined',
    );
  });

  test.each([
    [ended(143), 143],
    [killed('SIGTERM'), 143],
    [killed('SIGUSR1'), 138],
  ])('a worker that a signal stops before the first step stops the run: %o', (exit, exitCode) => {
    for (const joined of [false, true]) {
      const script = new Script();
      if (joined) script.join('a');
      expect(end(script.event({ type: 'exited', id: 'a', exit, again: false }))).toMatchObject({
        exitCode,
        fault: null,
      });
      expect(script.state.phase).toBe('STOPPED');
    }
  });

  test('silence is death after 3 s; any message is a sign of life', () => {
    const script = new Script().running();
    const pass = (ms: number) => {
      let actions: Action[] = [];
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 250;
        script.event({ type: 'heartbeat', id: 'a', heartbeat: { validated: 0 } });
        actions = script.event({ type: 'tick' });
        if (actions.length > 0) break;
      }
      return actions;
    };
    expect(pass(3_000)).toEqual([]);
    script.event({ type: 'heartbeat', id: 'b', heartbeat: { validated: 0 } });
    expect(pass(3_000)).toEqual([]);
    expect(reason(pass(250))).toMatch(/Lost rank 1 .* at step 1: no sign of life for 3\.3 s/);
  });

  test('a worker that joins a run that trains has the time to build that the others had', () => {
    const script = new Script({ maxWorkers: 3 }).running();
    script.join('c');
    const pass = (ms: number) => {
      let actions: Action[] = [];
      for (const stop = script.now + ms; script.now < stop && actions.length === 0; ) {
        script.now += 250;
        for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: { validated: 0 } });
        actions = script.event({ type: 'tick' });
      }
      return actions;
    };
    expect(pass(60_000)).toEqual([]);
    expect(pass(250)).toMatchObject([{ type: 'cut', id: 'c' }, { type: 'note' }]);
    script.join('c');
    script.standby('c');
    expect(pass(3_000)).toEqual([]);
    expect(pass(250)).toMatchObject([{ type: 'cut', id: 'c' }, { type: 'note' }]);
  });

  test('an answer of a worker without a place in the generation changes nothing', () => {
    const script = new Script({ maxWorkers: 3, checkpointEvery: 1 }).running();
    script.join('c');
    script.step(1);
    script.applied('a', 1);
    expect(script.applied('c', 1, 'other')).toEqual([]);
    script.applied('b', 1);
    expect(script.saved(1)).toEqual([{ type: 'publish', saved: staged(1) }]);
  });

  test('a pause of the coordinator itself kills nobody', () => {
    const script = new Script().running();
    script.now += 60_000;
    expect(script.event({ type: 'tick' })).toEqual([]);
    // Nor does the pause count as time of the step, whose limit is half an hour.
    script.now += 3_600_000;
    expect(script.event({ type: 'tick' })).toEqual([]);
  });

  test('heartbeats alone are no progress', () => {
    const script = new Script().running();
    const wait = (ms: number) => {
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 500;
        for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: { validated: 0 } });
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
      script.event({ type: 'heartbeat', id: 'a', heartbeat: { validated: 0 } });
      actions = script.event({ type: 'tick' });
    }
    expect(reason(actions)).toBe('ERR_JOIN_TIMEOUT: 1 of 2 workers joined within 60 s');
  });

  test('an error of a worker keeps its code and hint, and names the worker', () => {
    const failure = (code: string, hint: string) =>
      end(
        new Script()
          .running()
          .event({ type: 'failure', id: 'b', failure: { code, message: 'off', hint, fatal: true } }),
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
    script.event({ type: 'leave', id: 'b', leave: { exitCode: 138 } });
    script.step(1);
    script.checkpoint(1);
    expect(end(script.finish(1))).toMatchObject({
      exitCode: 138,
      reason: 'received SIGUSR1 (first heard from rank 1 (pid 101 on h))',
    });
  });

  test('the exit code that a worker asks for is believed only if a signal leads to it', () => {
    for (const exitCode of [0, 1, 256, -1]) {
      const script = new Script();
      script.join('a');
      const actions = script.event({ type: 'leave', id: 'a', leave: { exitCode } });
      expect(end(actions)).toMatchObject({ exitCode: 143 });
    }
  });

  describe('in a run that outlives its workers', () => {
    const OUTLIVES = { minWorkers: 1, patienceMs: 60_000 };
    const failure = { code: 'ERR_EXCHANGE', message: 'reset', hint: '', fatal: false };

    test('an error that only one worker has ends that worker, and the others go on', () => {
      const script = new Script(OUTLIVES).running();
      const actions = script.event({ type: 'failure', id: 'b', failure });
      expect(actions).toContainEqual({ type: 'cut', id: 'b', reason: 'reset' });
      expect(script.state).toMatchObject({ phase: 'FORMING', generation: 6, places: [{ id: 'a' }] });
    });

    test('an error that any worker would have ends the run', () => {
      const script = new Script(OUTLIVES).running();
      const fatal = { ...failure, code: 'ERR_PLAN', fatal: true };
      expect(end(script.event({ type: 'failure', id: 'b', failure: fatal }))?.fault?.code).toBe('ERR_PLAN');
    });

    test('if too few are left and no others come, those that are left save what they hold, and the run has failed', () => {
      const script = new Script({ ...OUTLIVES, minWorkers: 2, supervised: true }).running();
      script.step(1);
      script.event({ type: 'lost', id: 'b', reason: 'reset' });
      expect(script.state.phase).toBe('JOINING');
      // Another process may still take its place.
      script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
      script.now += 250;
      expect(script.event({ type: 'tick' })).toEqual([]);
      script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: false });
      script.now += 250;
      script.event({ type: 'tick' });
      expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'a' }] });
      const device = null;
      script.event({ type: 'formed', id: 'a', formed: { device, held: { step: 1 } } });
      const [start] = script.event({ type: 'ready', id: 'a', ready: ready({ step: 1 }) }).slice(-1);
      expect(start).toMatchObject({ message: { start: { step: 1, checkpoint: true, stop: true } } });
      script.event({ type: 'finished', id: 'a', finished: {} });
      script.applied('a', 1);
      script.saved(1);
      const published = { step: 1, path: 'step-1', seconds: 1, stallSeconds: 0, bytes: 1 };
      expect(end(script.event({ type: 'published', checkpoint: published }))).toMatchObject({
        exitCode: 1,
        fault: {
          code: 'ERR_WORKER_LOST',
          message: 'Lost rank 1 (pid 101 on h) at step 2: reset',
          hint: 'The last checkpoint is that of step 1: --resume auto, the default, goes on from there',
        },
      });
    });

    test('who builds while others train may be silent for as long as before the first step', () => {
      const script = new Script({ ...OUTLIVES, maxWorkers: 3 }).running();
      script.join('c');
      const silentFor = (seconds: number) => {
        for (let i = 0; i < 4 * seconds; i++) {
          script.now += 250;
          for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: { validated: 0 } });
          const cut = script.event({ type: 'tick' }).find(({ type }) => type === 'cut');
          if (cut) return cut;
        }
        return null;
      };
      expect(silentFor(59)).toBeNull();
      expect(silentFor(2)).toMatchObject({ type: 'cut', id: 'c' });
      expect(script.state.phase).toBe('RUNNING');
    });

    test('the next generation has the time to finish a step that it computes', () => {
      const script = new Script(OUTLIVES).running();
      script.event({ type: 'lost', id: 'b', reason: 'reset' });
      const phaseAfter = (seconds: number) => {
        for (let i = 0; i < 4 * seconds; i++) {
          script.now += 250;
          script.event({ type: 'heartbeat', id: 'a', heartbeat: { validated: 0 } });
          script.event({ type: 'tick' });
        }
        return script.state.phase;
      };
      expect(phaseAfter(1_790)).toBe('FORMING');
      expect(phaseAfter(20)).toBe('FAILED');
    });
  });

  test('a record that cannot be written ends the run without a commit', () => {
    const script = new Script().running();
    const fault = { code: 'ERR_FILE_WRITE', message: 'full', hint: 'Free some space' } as const;
    const actions = script.event({ type: 'actionFailed', fault });
    // What is on the disk is what the user can go on from.
    const hint = 'Free some space. There is no checkpoint yet: the same command starts from the beginning';
    expect(end(actions)?.fault).toEqual({ ...fault, hint });
    expect(actions.some(({ type }) => type === 'commit')).toBe(false);
  });
});
