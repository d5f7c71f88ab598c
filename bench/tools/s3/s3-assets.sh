#!/usr/bin/env bash
# Finds, or builds once, the S3 server of the tests (versitygw), and prints the
# folder that holds it as the last line of standard output. Everything else goes
# to standard error. Needs Go only.
#
#   AFTERIMAGE_CACHE    where builds are kept; default
#                       ${XDG_CACHE_HOME:-$HOME/.cache}/afterimage
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s\n' "$*" >&2; }

version=$(awk '$1 == "github.com/versity/versitygw" && $2 ~ /^v/ {print substr($2, 2); exit}' "$here/go.mod")
if [ -z "$version" ]; then
  say "$here/go.mod does not require github.com/versity/versitygw"
  exit 1
fi

cache=${AFTERIMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/afterimage}/s3
folder=$cache/versitygw$version

# right FILE: it is there and of the wanted version.
right() {
  local answer
  [ -x "$1" ] || return 1
  answer=$("$1" --version 2>/dev/null) || return 1
  [[ $answer =~ Version\ *:\ v${version//./\\.}([[:space:]]|$) ]]
}

if right "$folder/versitygw"; then
  printf '%s\n' "$folder"
  exit 0
fi

mkdir -p "$folder"

# One builder at a time: a second one waits and then finds the work done. The
# lock only saves work, so stealing it from a builder that died is safe: each
# build goes to a name of its own and is renamed into place.
lock=$folder/.lock
said=
nameless=0
until mkdir "$lock" 2>/dev/null; do
  holder=$(cat "$lock/pid" 2>/dev/null || true)
  if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
    say "the builder with process id $holder is gone: taking over"
    rm -rf "$lock"
    continue
  fi
  if [ -z "$holder" ]; then
    # Its owner died between making the lock and signing it.
    nameless=$((nameless + 1))
    if [ "$nameless" -gt 10 ]; then
      rm -rf "$lock"
      continue
    fi
  fi
  if [ -z "$said" ]; then
    said=yes
    say "waiting for another build of the S3 server (lock $lock)"
  fi
  sleep 1
done
echo $$ >"$lock/pid"
building=$folder/.building-$$
mkdir -p "$building"
trap 'rm -rf "$lock" "$building"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! right "$folder/versitygw"; then
  started=$SECONDS
  say "building versitygw $version, about 2 minutes the first time ..."
  # GOFLAGS and GOWORK of the caller are for the caller's module, not this one.
  (cd "$here" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off \
    go build -trimpath -o "$building/versitygw" -ldflags "-s -w -X main.Version=v$version" \
    github.com/versity/versitygw/cmd/versitygw) >&2
  if ! right "$building/versitygw"; then
    say "versitygw was built, but does not report version $version"
    exit 1
  fi
  mv -f "$building/versitygw" "$folder/versitygw"
  say "built versitygw in $((SECONDS - started)) s"
fi

printf '%s\n' "$folder"
