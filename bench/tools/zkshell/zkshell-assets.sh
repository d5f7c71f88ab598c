#!/usr/bin/env bash
# Finds, or installs once from PyPI, the zk-shell named by requirements.txt, with
# which the benchmark compares. Prints its folder as the last line of standard
# output: PYTHONPATH=FOLDER python3 FOLDER/bin/zk-shell runs it. Everything else
# goes to standard error. Needs python3 with pip.
#
#   AFTERIMAGE_CACHE    where it is kept; default
#                       ${XDG_CACHE_HOME:-$HOME/.cache}/afterimage
#
# Exit status 3 means that python3 or its pip is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { printf '%s\n' "$*" >&2; }

if ! python3 -m pip --version >/dev/null 2>&1; then
  say "missing: python3 with pip"
  exit 3
fi

version=$(sed -n 's/^zk-shell==\([0-9.]*\).*/\1/p' "$here/requirements.txt")
cache=${AFTERIMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/afterimage}/zkshell
folder=$cache/$version

if [ -d "$folder" ]; then
  printf '%s\n' "$folder"
  exit 0
fi

# The rename below is what makes the folder complete.
mkdir -p "$cache"
installing=$(mktemp -d "$cache/.installing-XXXXXX")
trap 'rm -rf "$installing"' EXIT
say "installing zk-shell $version from PyPI ..."
python3 -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
  --target "$installing/lib" --requirement "$here/requirements.txt" >&2
if [ ! -d "$folder" ]; then
  mv "$installing/lib" "$folder"
fi
printf '%s\n' "$folder"
