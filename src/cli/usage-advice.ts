/** What to type instead of an option, an argument or a command that other trainers have. */
import { aliasOf } from '../config/aliases.js';
import { shellText } from '../text/shell.js';

/** Commands of other trainers, with ours. */
const COMMANDS: Readonly<Record<string, string>> = {
  train: 'launch',
  run: 'launch',
  fit: 'launch',
  resume: 'launch',
  generate: 'sample',
  validate: 'evaluate',
  export: 'model export',
  import: 'model import',
};

/**
 * A line in addition to an error of the command line, or null.
 *
 * @param message commander's, such as "unknown option '--config'".
 * @param args what was typed after the program's name.
 */
export function usageAdvice(message: string, args: readonly string[]): string | null {
  const option = /unknown option '--([^'=]+)/.exec(message)?.[1];
  if (option === 'config') return 'The configuration is an argument, without an option: launch run.yaml';
  if (option !== undefined) return adviceOnOption(option);
  const command = /unknown command '([^']+)'/.exec(message)?.[1];
  if (command !== undefined) {
    const ours = Object.hasOwn(COMMANDS, command) ? COMMANDS[command]! : null;
    return ours && `Here it is \`orchestrator ${ours}\``;
  }
  if (!message.includes('too many arguments')) return null;
  // As Hydra and accelerate write a key and its value.
  const pairs = args.filter((arg, i) => /^[a-z_][\w.]*=/i.test(arg) && args[i - 1] !== '--set');
  const flags = pairs.flatMap((pair) => ['--set', pair]);
  return pairs.length === 0 ? null : `A key of the configuration is set with ${shellText(flags)}`;
}

function adviceOnOption(option: string): string | null {
  const other = aliasOf(option);
  if (other === null) return null;
  const key = /^here it is (?!the option)([a-z_.]+)/.exec(other)?.[1];
  const set = key === undefined ? '' : `: --set ${key}=VALUE`;
  return `${other.replace('here', 'Here')}${set}`;
}
