#!/usr/bin/env bash
# Finds, or fetches once, the old Apache ZooKeeper named by pom.xml and prints the
# folder of its jars; ../maven-assets.sh says how, and what --install does.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../maven-assets.sh" zookeeper35 "Apache ZooKeeper" zookeeper "$@"
