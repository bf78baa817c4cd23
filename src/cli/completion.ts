/** Scripts that complete the command line in shells, made from commander's definitions. */
import type { Command, Option } from 'commander';

interface Completed {
  /** "", "checkpoint", "checkpoint inspect" */
  path: string;
  commands: { name: string; description: string }[];
  options: readonly Option[];
  /** Whether an argument is a run, so that names under runs/ are completed beside files. */
  takesRun: boolean;
  /** The values of an argument that has only these. */
  values: readonly string[];
}

/** A name of a file may follow: neither the name of a command nor one of some values is due. */
const takesFile = ({ commands, values }: Completed) => commands.length === 0 && values.length === 0;

/** The command and those below it that are shown in its help. */
function* completed(command: Command, path: readonly string[]): Generator<Completed> {
  const help = command.createHelp();
  const children = help.visibleCommands(command).filter((child) => child.name() !== 'help');
  const shown = help.visibleArguments(command);
  yield {
    path: path.join(' '),
    commands: children.map((child) => ({ name: child.name(), description: child.description() })),
    options: help.visibleOptions(command),
    takesRun: shown.some(({ description }) => /run's folder or name|name under runs/.test(description)),
    values: shown.flatMap(({ argChoices }) => argChoices ?? []),
  };
  for (const child of children) yield* completed(child, [...path, child.name()]);
}

const flagsOf = (options: readonly Option[]) =>
  options.flatMap(({ short, long }) => [short, long].filter((flag) => flag !== undefined));
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Names of folders are no words of `compgen -W`, which would carry out what they have in `$(...)`. */
function bash(program: Command): string {
  const all = [...completed(program, [])];
  const groups = all.filter(({ commands }) => commands.length > 0);
  const cases = all.map((one) => {
    const words = [...one.commands.map(({ name }) => name), ...one.values, ...flagsOf(one.options)].join(' ');
    const [runs, files] = [one.takesRun ? 1 : 0, takesFile(one) ? 1 : 0];
    return `    ${quoted(one.path)}) words=${quoted(words)}; runs=${runs}; files=${files} ;;`;
  });
  const choices = all.flatMap(({ path, options }) =>
    options.flatMap(({ long, argChoices }) =>
      argChoices === undefined
        ? []
        : [
            `    ${quoted(`${path} ${long}`)}) COMPREPLY=($(compgen -W ${quoted(argChoices.join(' '))} -- "$word")); return ;;`,
          ],
    ),
  );
  return `_orchestrator() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} path='' words='' runs=0 files=1 i name
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path" in
    ${groups.map(({ path }) => quoted(path)).join('|')}) [[ \${COMP_WORDS[i]} == -* ]] || path="\${path:+$path }\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path $before" in
${choices.join('\n')}
  esac
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  ((runs)) && for name in runs/"$word"*/; do
    [ -d "$name" ] && name=\${name%/} && COMPREPLY+=("\${name#runs/}")
  done
  local IFS=$'\\n'
  [[ $word == -* ]] || ((!files)) || COMPREPLY+=($(compgen -f -- "$word"))
}
complete -o filenames -F _orchestrator orchestrator ./orchestrator
`;
}

/** A word and what it means, as `_describe` reads them: "launch:start a run". */
const described = (word: string, meaning: string) =>
  quoted(`${word.replaceAll(':', '\\:')}:${meaning.replaceAll('\\', '\\\\')}`);

/** `path` would be zsh's list of folders with programs. */
function zsh(program: Command): string {
  const all = [...completed(program, [])];
  const groups = all.filter(({ commands }) => commands.length > 0);
  const cases = all.map((one) => {
    const flags = one.options.flatMap(({ short, long, description }) =>
      [short, long].filter((flag) => flag !== undefined).map((flag) => described(flag, description)),
    );
    const names = one.commands.map(({ name, description }) => described(name, description));
    return `    ${quoted(one.path)})
      runs=${one.takesRun ? 1 : 0} files=${takesFile(one) ? 1 : 0}
      commands=(${names.join(' ')})
      values=(${one.values.map(quoted).join(' ')})
      options=(${flags.join(' ')}) ;;`;
  });
  const choices = all.flatMap(({ path, options }) =>
    options.flatMap(({ long, argChoices }) =>
      argChoices === undefined
        ? []
        : [`    ${quoted(`${path} ${long}`)}) compadd -- ${argChoices.map(quoted).join(' ')}; return ;;`],
    ),
  );
  return `#compdef orchestrator
_orchestrator() {
  local command='' runs=0 files=1 i
  local -a commands values options
  for ((i = 2; i < CURRENT; i++)); do
    case "$command" in
    ${groups.map(({ path }) => quoted(path)).join('|')}) [[ $words[i] == -* ]] || command="\${command:+$command }$words[i]" ;;
    esac
  done
  case "$command $words[CURRENT-1]" in
${choices.join('\n')}
  esac
  case "$command" in
${cases.join('\n')}
  esac
  if [[ $PREFIX == -* ]]; then
    _describe -o option options
    return
  fi
  local found=1
  (( $#commands )) && _describe command commands && found=0
  (( $#values )) && compadd -- $values && found=0
  (( runs )) && compadd -- runs/*(N/:t) && found=0
  (( files )) && _files && found=0
  return found
}
if [[ $funcstack[1] == _orchestrator ]]; then
  # Loaded from a folder of fpath, to complete something.
  _orchestrator "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
  compdef _orchestrator orchestrator ./orchestrator
fi
`;
}

function fish(program: Command): string {
  const lines = [...completed(program, [])].flatMap(({ path, commands, options, takesRun, values }) => {
    const words = path === '' ? [] : path.split(' ');
    const within = words.map((word) => `__fish_seen_subcommand_from ${word}`);
    const names = commands.map(({ name }) => name).join(' ');
    const none = commands.length === 0 ? [] : [`not __fish_seen_subcommand_from ${names}`];
    const when = (conditions: string[]) =>
      conditions.length === 0 ? '' : ` -n ${quoted(conditions.join('; and '))}`;
    return [
      ...commands.map(
        ({ name, description }) =>
          `complete -c orchestrator -f${when([...within, ...none])} -a ${name} -d ${quoted(description)}`,
      ),
      ...(path === '' ? [] : options).map(({ short, long, description, argChoices, required }) => {
        const flags = [short && `-s ${short.slice(1)}`, long && `-l ${long.slice(2)}`]
          .filter(Boolean)
          .join(' ');
        const values = argChoices ? ` -x -a ${quoted(argChoices.join(' '))}` : required ? ' -r' : '';
        return `complete -c orchestrator${when(within)} ${flags}${values} -d ${quoted(description)}`;
      }),
      ...(values.length === 0
        ? []
        : [`complete -c orchestrator -f${when(within)} -a ${quoted(values.join(' '))}`]),
      ...(takesRun ? [`complete -c orchestrator${when(within)} -a '(ls runs 2>/dev/null)'`] : []),
    ];
  });
  return `${lines.join('\n')}\n`;
}

export const SHELLS = {
  bash,
  zsh,
  fish,
} satisfies Record<string, (program: Command) => string>;
