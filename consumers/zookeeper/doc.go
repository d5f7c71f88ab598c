// Package zookeeper is the place of what writes a destination ensemble. It is
// not built yet.
package zookeeper
