// Package zookeeper is the place of what reads a source ensemble and appends its
// nodes to changes. It is not built yet.
package zookeeper
