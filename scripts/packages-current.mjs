// Exits 0 where node_modules holds exactly what package-lock.json asks for on this machine, else 1.
// npm keeps what it installed in node_modules/.package-lock.json, so two small files say it all.
import { existsSync, readFileSync } from 'node:fs';

function packages(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).packages : {};
}

const wanted = packages('package-lock.json');
const installed = packages('node_modules/.package-lock.json');
const current = Object.entries(wanted).every(([place, { version, integrity, optional, peer }]) => {
  if (place === '') return true;
  const found = installed[place];
  // Optional packages are those of other systems; npm knows which are ours, and installs them together.
  if (found === undefined) return optional === true || peer === true;
  return found.version === version && found.integrity === integrity && existsSync(`${place}/package.json`);
});
process.exit(current && Object.keys(installed).length > 0 ? 0 : 1);
