#!/usr/bin/env bash
# Finds, or fetches once from Maven Central, the Java server that the pom.xml in
# a folder names and prints the folder of its jars as the last line of standard
# output. Everything else goes to standard error. Needs mvn and a Java 17 or
# newer; with --install they are installed through apt-get where they are missing.
#
#   maven-assets.sh FOLDER PRODUCT JAR [--install]
#
# FOLDER is one beside this file and the name of the cache's folder; its pom.xml
# has the version as <FOLDER.version>. JAR is the name, without the version, of
# the jar that must be among those fetched.
#
#   AFTERIMAGE_CACHE    where it is kept; default
#                       ${XDG_CACHE_HOME:-$HOME/.cache}/afterimage
#
# Exit status 3 means that mvn or java is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$1 product=$2 jar=$3
pom=$here/$name/pom.xml
say() { printf '%s\n' "$*" >&2; }

missing() {
  local tool
  for tool in java mvn; do
    command -v "$tool" >/dev/null || printf '%s ' "$tool"
  done
}

if [ "${4:-}" = --install ] && [ -n "$(missing)" ]; then
  say "installing what is missing: $(missing)"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq maven default-jre-headless >&2
fi
if [ -n "$(missing)" ]; then
  say "missing: $(missing)"
  exit 3
fi

version=$(sed -n "s|.*<$name.version>\(.*\)</$name.version>.*|\1|p" "$pom")
cache=${AFTERIMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/afterimage}/$name
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
say "fetching $product $version from Maven Central, about a minute the first time ..."
# --file keeps Maven's own output folder out of the way: nothing is built.
mvn -q -B -f "$pom" dependency:copy-dependencies \
  -DincludeScope=runtime "-DoutputDirectory=$fetching/jars" >&2
if [ ! -e "$fetching/jars/$jar-$version.jar" ]; then
  say "Maven brought no $jar-$version.jar"
  exit 1
fi
if [ ! -d "$folder" ]; then
  mv "$fetching/jars" "$folder"
fi
printf '%s\n' "$folder"
