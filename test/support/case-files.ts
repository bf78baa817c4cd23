/**
 * Cases of the rule of a run as files that can be read: lines with ">" are what happens, the lines below them are
 * what the coordinator does then. Where a name list may stand, "all" means the members of the generation.
 *
 * > run a b c; slots 4; steps 3   workers that are waited for, and settings
 * > begin a b c                   they join, build, form, load their state and are ready
 * > prepared a loss 2             an answer, of the current step or of what was ordered last
 * > return a step 5               it joins again, and stands by with the state after this step, or the last it has heard of
 * > silence b 4 s                 time passes, in which only the others are heard
 * > lost a & standby d            both in one moment
 */
import type { Action, Event, Settings } from '../../src/coordinator/events.js';
import { RunState } from '../../src/coordinator/rule.js';
import type { FromCoordinator, Orders, Prepared, Ready } from '../../src/rpc/proto.js';
import { gathered, HEARTBEAT, SAYS_NOTHING } from './rule-script.js';

/** The file with what the coordinator does in place of what it says. */
export function replay(text: string): string {
  let script: Script | null = null;
  const lines = text.split('\n').flatMap((line) => {
    if (!line.startsWith('>')) return line === '' || line.startsWith('#') ? [line] : [];
    if (!/^> *run /.test(line)) return [line, ...script!.perform(line.slice(1).split(' & '))];
    script = new Script(settingsOf(line.slice(line.indexOf('run') + 3)));
    return [line];
  });
  return lines.join('\n');
}

function settingsOf(text: string): Settings {
  const [names = '', ...others] = text.split(';').map((part) => part.trim());
  const workers = names.split(' ').length;
  const numbers = Object.fromEntries(
    others.map((other) => [other.replace(/ \d+$/, ''), Number(/\d+$/.exec(other))]),
  );
  return {
    workers,
    minWorkers: numbers.min ?? 1,
    maxWorkers: 99,
    patienceMs: 60_000,
    welcome: { configJson: '{}', workers, runDir: 'runs/x', planJson: '[]', patienceSeconds: 60, isa: '' },
    onGpus: false,
    mustShare: false,
    totalSlots: numbers.slots ?? workers,
    steps: numbers.steps ?? 9,
    checkpointEvery: numbers['checkpoint every'] ?? 0,
    validateEvery: numbers['validate every'] ?? 0,
    configHash: 'config',
    lastGeneration: 0,
    resumePath: '',
    resumeStep: 0,
  };
}

class Script {
  readonly #state: RunState;
  readonly #slots: number;
  #now = 0;
  #phase = '';
  /** What was ordered last. */
  #orders: Orders = { step: 0, validate: false, checkpoint: false, stop: false };
  /** What the workers hold, unless a line says something else. */
  readonly #held = new Map<string, number>();
  /** The newest generation that each has heard of. */
  readonly #newest = new Map<string, number>();

  constructor(settings: Settings) {
    this.#slots = settings.totalSlots;
    this.#state = new RunState(settings);
    this.#state.handle({ type: 'listening' }, 0);
  }

  /** What happens in one moment. */
  perform(together: readonly string[]): string[] {
    const actions = this.#gathered(
      together.flatMap((one) => {
        const [command = '', ...words] = one.trim().split(/ +/);
        return this.#carryOut(command, words);
      }),
    );
    for (const action of actions) if (action.type === 'send') this.#hear(action.message, action.to ?? []);
    const phase = this.#state.phase;
    const entered = phase === this.#phase ? [] : [`= ${phase}`];
    this.#phase = phase;
    return [...actions.map(describe), ...entered];
  }

  #hear(message: FromCoordinator, to: readonly string[]): void {
    if (message.form) for (const id of to) this.#newest.set(id, Number(message.generation));
    const orders = message.start ?? message.commit;
    if (orders) this.#orders = orders as Orders;
    if (orders) for (const id of to) this.#held.set(id, Number(orders.step));
  }

  #carryOut(command: string, words: readonly string[]): Action[] {
    if (command === 'stop') return this.#happen({ type: 'stop', exitCode: 143, reason: 'told' });
    if (command === 'published') {
      const checkpoint = {
        step: Number(words[1]),
        path: `step-${words[1]}`,
        seconds: 1,
        stallSeconds: 0,
        bytes: 1,
      };
      return this.#happen({ type: 'published', checkpoint });
    }
    if (command === 'begin') {
      const each = ['join', 'standby', 'formed', 'ready'];
      return each
        .flatMap((answer) => {
          const actions = this.#carryOut(answer, words);
          for (const action of actions)
            if (action.type === 'send') this.#hear(action.message, action.to ?? []);
          return actions;
        })
        .slice(-1);
    }
    const at = words.findIndex((word) => /^(loss|step|holding|nothing|state|after|[\d.]+)$/.test(word));
    const names = at < 0 ? words : words.slice(0, at);
    const extra = at < 0 ? [] : words.slice(at);
    const ids = names[0] === 'all' ? this.#state.places.map(({ id }) => id) : names;
    if (command === 'silence') return this.#silence(ids, 1000 * Number(extra[0]));
    if (command === 'wait') return this.#silence([], 1000 * Number(extra[0]));
    const commands = command === 'return' ? ['again', 'holding'] : [command];
    return ids.flatMap((id) => commands.flatMap((one) => this.#happen(this.#eventOf(one, id, extra))));
  }

  #silence(silent: readonly string[], ms: number): Action[] {
    const actions: Action[] = [];
    for (const end = this.#now + ms; this.#now < end; ) {
      this.#now += 250;
      const heard = [...this.#held.keys(), ...this.#joined].filter((id) => !silent.includes(id));
      for (const id of heard) this.#happen({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      actions.push(...this.#gathered(this.#happen({ type: 'tick' })));
    }
    return actions;
  }

  readonly #joined: string[] = [];

  #happen(event: Event): Action[] {
    if (event.type === 'joined') this.#joined.push(event.id);
    return this.#state.handle(event, this.#now);
  }

  /** What else is lost in the moment for which losses are gathered is among the actions. */
  #gathered(actions: Action[]): Action[] {
    return gathered(actions, () => this.#happen({ type: 'gathered' }));
  }

  #eventOf(command: string, id: string, [what = '', value = '']: readonly string[]): Event {
    const { step } = this.#orders;
    switch (command) {
      case 'join':
        this.#held.delete(id);
        return { ...joined(id), newest: 0 };
      case 'again':
        return { ...joined(id), newest: this.#newest.get(id) ?? 0 };
      case 'standby':
      case 'holding':
        return {
          type: 'standby',
          id,
          standby: {
            withoutRunFolder: false,
            arithmetic: '',
            held: command === 'holding' ? { step: Number(value || (this.#held.get(id) ?? 0)) } : null,
            shares: false,
          },
        };
      case 'formed': {
        const held = what === 'holding' ? Number(value) : (this.#held.get(id) ?? null);
        const holds = what !== 'nothing' && held !== null;
        return {
          type: 'formed',
          id,
          formed: { device: null, sharing: null, held: holds ? { step: held } : null },
        };
      }
      case 'ready': {
        const ready = {
          step: what === 'after' ? Number(value) : (this.#held.get(id) ?? 0),
          configHash: 'config',
        };
        return { type: 'ready', id, ready: ready as Ready };
      }
      case 'prepared':
        return { type: 'prepared', id, prepared: this.#prepared(id, step + 1, Number(value || 1)) };
      case 'applied':
        return { type: 'applied', id, applied: { step, stateHash: value } };
      case 'validated':
        return {
          type: 'validated',
          id,
          validated: { step, losses: [], seconds: 1, abandoned: false, emaDistance: 0 },
        };
      case 'saved': {
        const saved = { folder: 'staged', seconds: 1, stallSeconds: 0, bytes: 1 };
        return { type: 'saved', id, saved: { step: Number(value || step), ...saved } };
      }
      case 'finished':
        return { type: 'finished', id, finished: {} };
      case 'leave':
        return { type: 'leave', id, leave: { exitCode: 143 } };
      case 'killed': {
        const exit = { code: null, signal: 'SIGKILL', outOfMemory: false } as const;
        return { type: 'exited', id, exit, again: true };
      }
      case 'lost':
        return { type: 'lost', id, reason: 'its connection was reset' };
      default:
        throw new Error(`no command "${command}"`);
    }
  }

  #prepared(id: string, step: number, loss: number): Prepared {
    const { firstSlot = 0, endSlot = this.#slots } =
      this.#state.places.find((place) => place.id === id) ?? {};
    const slots = Array.from({ length: endSlot - firstSlot }, (_, i) => ({
      slot: firstSlot + i,
      losses: [loss],
      samples: [firstSlot + i],
      skipped: [],
      times: [0.5],
    }));
    const none = { nonFinite: [], attention: [], numbers: {}, gradientNorms: {} };
    return { step, slots, gradientNorm: 1, ...none };
  }
}

function describe(action: Action): string {
  switch (action.type) {
    case 'send':
      return `to ${action.to?.join(' ') ?? 'all'}: ${describeMessage(action.message)}`;
    case 'journal': {
      const places = action.workers.map(
        ({ id, firstSlot, endSlot }) => `${id} has slots ${firstSlot}-${endSlot - 1}`,
      );
      return `journal: generation ${action.generation} after step ${action.step}: ${places.join(', ')}`;
    }
    case 'note':
    case 'warn':
      return `${action.type}: ${action.message}`;
    case 'sweep':
      return `sweep, except ${action.keep.join(' ') || 'nothing'}`;
    case 'cut':
    case 'refuse':
      return `${action.type} ${action.id}`;
    case 'started':
      return `started from step ${action.firstStep}`;
    case 'commit':
      return `ledger: step ${action.step}`;
    case 'record':
    case 'syncRecords':
    case 'validation':
      return `${action.type} of step ${action.step}`;
    case 'fetch':
      return `fetch the state after step ${action.offered.step} from ${action.member.id}`;
    case 'publish':
      return `publish the checkpoint of step ${action.saved.step}`;
    case 'saved':
      return `checkpoint of step ${action.checkpoint.step}`;
    case 'notSaved':
      return `warning: ${action.missed.fault.message}`;
    case 'gather':
      return 'gather losses';
    case 'stopping':
      return [`stopping: ${action.reason}`, ...action.awaited.map((name) => `waits for ${name}`)].join('; ');
    case 'end':
      return `end ${action.exitCode}: ${action.fault?.code ?? ''} ${action.reason}`.replace('  ', ' ');
  }
}

function describeMessage({ welcome, waiting, form, sync, start, commit, stop }: FromCoordinator): string {
  if (welcome) return 'welcome';
  if (waiting) return waiting.reason === '' ? 'leave the generation' : `wait: ${waiting.reason}`;
  if (form) return 'form';
  if (sync?.keep) return 'keep the state';
  if (sync?.holders)
    return `take the state after step ${sync.holders.step} from ranks ${sync.holders.ranks?.join(' ')}`;
  if (sync) return sync.checkpoint === undefined ? 'initialise the state' : `load ${sync.checkpoint}`;
  if (stop) return `stop with ${stop.exitCode}`;
  const orders = start ?? commit;
  if (!orders) return 'drain';
  const wanted = (['validate', 'checkpoint', 'stop'] as const).filter((order) => orders[order]);
  return [`${start ? 'start after' : 'commit'} step ${orders.step}`, ...wanted].join(', ');
}

function joined(id: string): Extract<Event, { type: 'joined' }> {
  const addresses = { dataAddress: id, localAddress: '', machine: '', sharedMemory: '' };
  return { type: 'joined', id, host: id, pid: 1, ...addresses, ...SAYS_NOTHING };
}
