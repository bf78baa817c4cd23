/** Generates docs/reference/events.md from the vocabulary of run.log. */
import { EVENTS } from '../telemetry/events.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `\`run.log\` in the run folder has one JSON object per line, each an event of the coordinator: \`time\` (ISO 8601, UTC), \`level\` (info, warn, error),
\`event\`, and the fields of the event. \`orchestrator logs RUN\` prints it for people, \`--follow\` until the run ends. Logs of earlier versions, whose
lines have \`msg\` and a number as \`level\`, are printed, too.`;

export function eventsPage(): string {
  const rows = Object.entries(EVENTS).map(([name, { fields, meaning }]) => [
    code(name),
    fields.split(', ').map(code).join(', '),
    meaning,
  ]);
  return page(
    'Events of run.log',
    'src/telemetry/events.ts',
    INTRODUCTION,
    table(['event', 'fields', 'meaning'], rows),
  );
}
