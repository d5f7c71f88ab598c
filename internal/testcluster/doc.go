// Package testcluster starts throwaway servers on this machine: Kubernetes API
// servers on an etcd of their own (with kube-controller-manager where asked
// for), an Apache Kafka, ZooKeeper servers and ensembles, and an S3 server. Tests
// use it through internal/testenv; the demo and the benchmarks use it as it is.
//
// It guarantees that a started cluster answers (readiness was seen, not waited
// out), that ports stay the same over stops and starts, and that no child
// outlives the process that started it, not even one that was killed (on
// Linux). It guarantees no durability against power loss: etcd runs without
// fsync, and so does ZooKeeper unless asked for it.
package testcluster
