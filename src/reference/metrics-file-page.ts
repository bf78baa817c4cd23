/** Generates docs/reference/metrics-file.md and configs/metrics.schema.json from the schema of metrics.jsonl. */
import { z } from 'zod';
import { metricsLine } from '../telemetry/metrics-schema.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `\`metrics.jsonl\` in the run folder has one JSON object per line, in the order in which things happened: steps, validations, checkpoints and
checkpoints that are missing. Names are snake_case and say the unit. A resumed run goes on in the same file; lines of steps that are trained again
are replaced. [\`configs/metrics.schema.json\`](../../configs/metrics.schema.json) is the JSON Schema of a line. Keys may be added in later versions.

\`\`\`python
import pandas as pd
df = pd.read_json('runs/my-run/metrics.jsonl', lines=True)
axes = df[df.type == 'step'].plot(x='step', y='loss')
df[df.type == 'validation'].plot(x='step', y='val_ema', ax=axes)
\`\`\`

Earlier versions wrote the results of a validation as objects (\`ema.mean\`, \`ema.bins\`, \`ema.epsilon_error\`), and no \`unix_seconds\` beside
validations and checkpoints. Such files are still read.`;

interface Node {
  description?: string;
  const?: string;
  enum?: string[];
  type?: string;
  items?: Node;
  properties?: Record<string, Node>;
  required?: string[];
  additionalProperties?: Node | false;
  oneOf?: Node[];
}

const schema = () => z.toJSONSchema(metricsLine) as Node;

export function metricsSchemaJson(): string {
  return `${JSON.stringify({ title: 'A line of metrics.jsonl', ...schema() }, null, 2)}\n`;
}

function rowsOf({ properties = {}, required = [] }: Node): string[][] {
  return Object.entries(properties).map(([name, node]) => {
    const type = node.const ?? node.enum?.join(', ') ?? node.type ?? '';
    return [code(name), type + (required.includes(name) ? '' : ', not always'), node.description ?? ''];
  });
}

export function metricsFilePage(): string {
  const header = ['key', 'value', 'meaning'];
  const lines = schema().oneOf ?? [];
  const sections = lines.map((line) => {
    const { additionalProperties: more } = line;
    const others = more ? [['others', more.type ?? '', more.description ?? '']] : [];
    const heading = `## Lines of type ${code(line.properties?.type?.const ?? '')}`;
    return `${heading}\n\n${table(header, [...rowsOf(line), ...others])}`;
  });
  const workers = lines[0]?.properties?.workers?.items ?? {};
  return page(
    'metrics.jsonl',
    'src/telemetry/metrics-schema.ts',
    INTRODUCTION,
    ...sections,
    `## A worker in ${code('workers')}\n\n${table(header, rowsOf(workers))}`,
  );
}
