#!/usr/bin/env bash
# Finds, or builds once, kube-apiserver, kube-controller-manager and etcd, and
# prints the folder that holds them as the last line of standard output.
# Everything else goes to standard error. Needs Go, git and make only.
#
#   KUBEBUILDER_ASSETS  a folder with all three, of the very versions named by
#                       the nested go.mod files, is taken as it is
#   AFTERIMAGE_CACHE    where builds are kept; default
#                       ${XDG_CACHE_HOME:-$HOME/.cache}/afterimage
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kube_module=$here
etcd_module=$here/../etcd

say() { printf '%s\n' "$*" >&2; }

# version_of MODULE GO.MOD prints the required version without its v.
version_of() {
  local version
  version=$(awk -v module="$1" '$1 == module && $2 ~ /^v/ {print substr($2, 2); exit}
    $1 == "require" && $2 == module {print substr($3, 2); exit}' "$2")
  if [ -z "$version" ]; then
    say "$2 does not require $1"
    exit 1
  fi
  printf '%s' "$version"
}

kube=$(version_of k8s.io/kubernetes "$kube_module/go.mod")
etcd=$(version_of go.etcd.io/etcd/server/v3 "$etcd_module/go.mod")

# right FOLDER BINARY: the binary is there and of the wanted version.
right() {
  local file=$1/$2 answer
  [ -x "$file" ] || return 1
  answer=$("$file" --version 2>/dev/null) || return 1
  case $2 in
    etcd) [[ $answer == "etcd Version: $etcd"* ]] ;;
    *) [[ $answer == "Kubernetes v$kube" ]] ;;
  esac
}

complete() {
  right "$1" kube-apiserver && right "$1" kube-controller-manager && right "$1" etcd
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  if complete "$KUBEBUILDER_ASSETS"; then
    printf '%s\n' "$KUBEBUILDER_ASSETS"
    exit 0
  fi
  say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS does not hold kube-apiserver and kube-controller-manager $kube and etcd $etcd: using the cache instead"
fi

cache=${AFTERIMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/afterimage}/kube
folder=$cache/$kube-etcd$etcd
if complete "$folder"; then
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
    say "waiting for another build of the same servers (lock $lock)"
  fi
  sleep 1
done
echo $$ >"$lock/pid"
building=$folder/.building-$$
mkdir -p "$building"
trap 'rm -rf "$lock" "$building"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# build MODULE-FOLDER BINARY PACKAGE LDFLAGS ABOUT
build() {
  local module=$1 name=$2 package=$3 flags=$4 about=$5 started=$SECONDS
  if right "$folder" "$name"; then
    return
  fi
  say "building $name, $about ..."
  # GOFLAGS and GOWORK of the caller are for the caller's module, not this one.
  (cd "$module" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off \
    go build -trimpath -o "$building/$name" -ldflags "-s -w $flags" "$package") >&2
  mv -f "$building/$name" "$folder/$name"
  if ! right "$folder" "$name"; then
    say "$folder/$name was built, but does not report the wanted version"
    exit 1
  fi
  say "built $name in $((SECONDS - started)) s"
}

# Without these stamps the servers report v0.0.0 at /version and refuse to start
# with emulated versions.
major=${kube%%.*}
rest=${kube#*.}
minor=${rest%%.*}
stamps=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  stamps+=" -X $package.gitVersion=v$kube -X $package.gitMajor=$major -X $package.gitMinor=$minor"
done

build "$etcd_module" etcd go.etcd.io/etcd/server/v3 "" "about half a minute the first time"
build "$kube_module" kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver "$stamps" "about 5 minutes the first time"
build "$kube_module" kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager "$stamps" "about a minute after kube-apiserver"

printf '%s\n' "$folder"
