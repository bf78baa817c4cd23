/** Runs one command of the command line, and turns an error into text and an exit code. */
import { EXIT } from '../errors.js';
import { argumentWithHome } from '../files/home.js';
import { printNote } from './output.js';
import { buildProgram, VERSION_ONLY } from './program.js';
import { reportError } from './report.js';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.done); // the reader, such as `head`, has closed the pipe
  throw error;
});

const given = process.argv.slice(2).map(argumentWithHome);
const command = given.findIndex((argument) => !argument.startsWith('-'));
const options = command < 0 ? given : given.slice(0, command);
// Other programs call it -V.
const isVersion = options.some((option) => ['-v', '-V', '--version'].includes(option));
const name = given[command] ?? null;
const program = await buildProgram(isVersion ? VERSION_ONLY : name);
try {
  await program.parseAsync(isVersion ? ['--version'] : given, { from: 'user' });
} catch (error) {
  const { text, exitCode } = reportError(error, program.opts<{ debug?: boolean }>().debug === true);
  if (text !== '') printNote(text.trimEnd());
  process.exitCode = exitCode;
}
