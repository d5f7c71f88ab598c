#!/usr/bin/env bash
# What must hold for a change to land, tests aside. Says all that is wrong, not
# just the first.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root" || exit 1
failed=0

# step ABOUT COMMAND...: runs it and notes a failure.
step() {
  local about=$1
  shift
  echo "verify: $about"
  if ! "$@"; then
    echo "verify: $about: FAILED" >&2
    failed=1
  fi
}

formatted() {
  local files
  files=$(git ls-files --cached --others --exclude-standard -- '*.go' | while read -r f; do
    if [ -e "$f" ]; then echo "$f"; fi
  done | xargs gofmt -l) || return 1
  if [ -n "$files" ]; then
    printf 'not formatted (run gofmt -w):\n%s\n' "$files" >&2
    return 1
  fi
}

# The state of the tree, so that a tree with changes can be verified too.
tree() {
  git status --porcelain
  git diff
}

generated() {
  local before after
  before=$(tree)
  make -s generate || return 1
  after=$(tree)
  if [ "$before" != "$after" ]; then
    echo "make generate changed:" >&2
    diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") >&2
    return 1
  fi
}

tidy() {
  local module bad=0
  while read -r module; do
    if ! (cd "$(dirname "$module")" && GOWORK=off go mod tidy -diff); then
      echo "$module is not tidy" >&2
      bad=1
    fi
  done < <(git ls-files -- 'go.mod' '*/go.mod')
  return "$bad"
}

step "gofmt" formatted
step "go vet" go vet ./...
step "go vet with failpoints" go vet -tags failpoints ./...
step "generated files" generated
step "lint" make -s lint
step "module files" tidy

if [ "$failed" -ne 0 ]; then
  echo "make verify: FAILED" >&2
  exit 1
fi
echo "make verify: passed"
