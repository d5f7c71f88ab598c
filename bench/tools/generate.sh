#!/usr/bin/env bash
# Generates the deep copies and the CRDs of operator/api/v1alpha1. `make generate`
# runs it; `make verify` fails when it changes anything.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
gen=$(cd "$root/bench/tools/gen" && go tool -n controller-gen)
cd "$root"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$gen" object paths=./operator/api/...
"$gen" crd:generateEmbeddedObjectMeta=false paths=./operator/api/... output:crd:artifacts:config="$out"

# controller-gen knows one API group a Go package; the kinds of ours belong to
# two. It writes astronetes.io, and what comes before that is put in here.
mkdir -p operator/config/crd
for crd in "$out"/astronetes.io_*.yaml; do
	plural=${crd##*/astronetes.io_}
	plural=${plural%.yaml}
	case $plural in
	kubernetesclusters | buckets | databases | zookeepers) group=assets.astronetes.io ;;
	*) group=automation.astronetes.io ;;
	esac
	sed -e "s/^  group: astronetes\.io\$/  group: $group/" \
		-e "s/^  name: $plural\.astronetes\.io\$/  name: $plural.$group/" \
		"$crd" >"operator/config/crd/${group}_$plural.yaml"
done
