#!/usr/bin/env bash
# Finds, or fetches once from Maven Central, the Apache Kafka named by pom.xml
# and prints the folder of its jars as the last line of standard output.
# Everything else goes to standard error. Needs mvn and a Java 17 or newer; with
# --install they are installed through apt-get where they are missing.
#
#   AFTERIMAGE_CACHE    where it is kept; default
#                       ${XDG_CACHE_HOME:-$HOME/.cache}/afterimage
#
# Exit status 3 means that mvn or java is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { printf '%s\n' "$*" >&2; }

missing() {
  local name
  for name in java mvn; do
    command -v "$name" >/dev/null || printf '%s ' "$name"
  done
}

if [ "${1:-}" = --install ] && [ -n "$(missing)" ]; then
  say "installing what is missing: $(missing)"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq maven default-jre-headless >&2
fi
if [ -n "$(missing)" ]; then
  say "missing: $(missing)"
  exit 3
fi

version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/pom.xml")
cache=${AFTERIMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/afterimage}/kafka
folder=$cache/$version

if [ -d "$folder" ]; then
  printf '%s\n' "$folder"
  exit 0
fi

# The rename below is what makes the folder complete; a second fetcher at the
# same time does the work twice and no harm.
mkdir -p "$cache"
fetching=$(mktemp -d "$cache/.fetching-XXXXXX")
trap 'rm -rf "$fetching"' EXIT
say "fetching Apache Kafka $version from Maven Central, about a minute the first time ..."
# --file keeps Maven's own output folder out of the way: nothing is built.
mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies \
  -DincludeScope=runtime "-DoutputDirectory=$fetching/jars" >&2
if [ ! -e "$fetching/jars/kafka_2.13-$version.jar" ]; then
  say "Maven brought no kafka_2.13-$version.jar"
  exit 1
fi
if [ ! -d "$folder" ]; then
  mv "$fetching/jars" "$folder"
fi
printf '%s\n' "$folder"
