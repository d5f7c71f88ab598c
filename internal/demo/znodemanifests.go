package demo

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/afterimage-dr/afterimage/operator/config"
)

// database of the names that the document's samples use.
const database = `apiVersion: assets.astronetes.io/v1alpha1
kind: Database
metadata:
  name: %s
spec:
  zookeeper:
    client:
      servers: ["%s"]
    sessionTimeout: 10s
`

// everyMinute is the document's plan with a schedule that can be waited for.
const everyMinute = `apiVersion: automation.astronetes.io/v1alpha1
kind: SynchronizationPlan
metadata:
  name: every-minute
spec:
  schedule: "* * * * *"
  template:
    spec:
      plugin: zookeeper-to-zookeeper-nodes
      config:
        sourceName: zookeeper-source
        destinationName: zookeeper-destination
        rootPath: ` + treeRoot + `
`

// nodeConfig of what leaves the locks out.
const nodeConfig = `
  plugin: zookeeper-to-zookeeper-nodes
  config:
    sourceName: zookeeper-source
    destinationName: zookeeper-destination
    rootPath: ` + treeRoot + `
    createRootPath: true
    excludePathRegexp: ^` + locks + `(/|$)
`

const liveNodes = `apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: live-zookeeper
spec:` + nodeConfig + `    resyncPeriod: 1m
`

const bringBack = `apiVersion: automation.astronetes.io/v1alpha1
kind: Synchronization
metadata:
  name: bring-back
spec:` + nodeConfig

// The document's samples of ZooKeeper.
const (
	sampleOnce = "09-zookeeper-once.yaml"
	samplePlan = "10-zookeeper-plan.yaml"
)

// writeNodeManifests writes two Databases, and beside them samples as they are and
// manifests of the demo's own, by file name.
func writeNodeManifests(dir, source, destination string, samples []string, own map[string]string) error {
	files := map[string]string{
		"database-source.yaml":      fmt.Sprintf(database, "zookeeper-source", source),
		"database-destination.yaml": fmt.Sprintf(database, "zookeeper-destination", destination),
	}
	for name, content := range own {
		files[name] = content
	}
	for _, name := range samples {
		content, err := config.Samples.ReadFile("samples/" + name)
		if err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
		files[name] = string(content)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing manifests: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing manifests: %w", err)
		}
	}
	return nil
}
