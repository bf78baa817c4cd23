/** The user's folders. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** A path whose leading "~" stands for the home folder, as in a shell; configurations are read by none. */
export function withHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

/** An argument of a command line: a path, or an option with one, whose "~" no shell has replaced. */
export function argumentWithHome(argument: string): string {
  const option = /^--[a-z-]+=(?=~)/.exec(argument)?.[0] ?? '';
  return option + withHome(argument.slice(option.length));
}

/** The folder of what can be computed again, by the XDG Base Directory Specification. */
export function cacheFolder(): string {
  const { XDG_CACHE_HOME: set } = process.env;
  return join(set && isAbsolute(set) ? set : join(homedir(), '.cache'), 'orchestrator');
}
