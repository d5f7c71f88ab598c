#!/usr/bin/env bash
# Runs golangci-lint over the main module. It is built once into the cache, by
# version, from the nested module here, so that its dependencies are not ours.
# Arguments go to `golangci-lint run`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../../..
version=$(awk '$1 == "github.com/golangci/golangci-lint/v2" {print $2; exit}' "$here/go.mod")
cache=${AFTERIMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/afterimage}/lint
# A linter built with an older Go cannot read code for a newer one.
binary=$cache/golangci-lint-$version-$(cd "$root" && go env GOVERSION)

if [ ! -x "$binary" ]; then
  echo "building golangci-lint $version, about 2 minutes the first time ..." >&2
  mkdir -p "$cache"
  (cd "$here" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off \
    go build -trimpath -ldflags "-s -w" -o "$binary.$$" github.com/golangci/golangci-lint/v2/cmd/golangci-lint) >&2
  mv -f "$binary.$$" "$binary"
fi

cd "$root"
# Another one on the machine, of another clone, is no reason to fail.
exec "$binary" run --allow-parallel-runners "$@" ./...
