package manifest

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

// good is a manifest without error; the table below breaks it in one place each.
func good() string {
	return clusterSecrets() + `---
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata:
  name: source
spec:
  secretName: source-kubeconfig
---
apiVersion: assets.astronetes.io/v1alpha1
kind: KubernetesCluster
metadata:
  name: destination
spec:
  secretName: destination-kubeconfig
---
apiVersion: v1
kind: Secret
metadata:
  name: bucket-credentials
stringData:
  accessKeyID: id
  secretAccessKey: key
---
apiVersion: assets.astronetes.io/v1alpha1
kind: Bucket
metadata:
  name: originals
spec:
  generic:
    endpoint: localhost:9000
    name: originals
    secretName: bucket-credentials
---
apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: standby
spec:
  plugin: kubernetes-objects-to-kubernetes
  suspend: false
  config:
    sourceName: source
    destinationName: destination
    bucketName: originals
    replication:
      resyncPeriod: 30m
      resources:
        - group: apps
          version: v1
          resource: deployments
          transformation:
            patch:
              - op: replace
                path: /spec/replicas
                value: 0
          filters:
            nameSelector:
              regex: ["web-.*"]
            selector:
              matchExpressions:
                - {key: tier, operator: In, values: [front]}
            namespaceSelector:
              matchLabels: {env: pre}
          recoveryProcess:
            fromOriginal: {enabled: true}
            fromPatch:
              - op: add
                path: /metadata/labels/x~1y
                value: ""
    components:
      synchronizer: {concurrentTasks: 16, logLevel: debug, resources: {limits: {cpu: 500m}}}
`
}

func TestGoodLoads(t *testing.T) {
	set, err := Load([]string{write(t, map[string]string{"all.yaml": good()})})
	if err != nil {
		t.Fatal(err)
	}
	if n := set.SettingsFor(set.LiveSynchronizations[0]).ConcurrentTasks["synchronizer"]; n != 16 {
		t.Errorf("concurrentTasks of the synchronizer = %d; want 16", n)
	}
}

type bad struct {
	old, new string // replaced in good(), once
	file     string // another file beside it
	object   string // in the error; default: the LiveSynchronization
	field    string
	want     string // part of the detail
}

const live = "LiveSynchronization default/standby"

// second is a LiveSynchronization that is valid by itself.
func second(name, source, destination, rest string) string {
	return `apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: ` + name + `
spec:
  plugin: kubernetes-objects-to-kubernetes
  config:
    sourceName: ` + source + `
    destinationName: ` + destination + `
    replication:
      resources:
        - {version: v1, resource: configmaps}
` + rest
}

const rec = "Recovery default/recover"

// recovery is one with the rest of its spec.
func recovery(rest string) string {
	return `apiVersion: automation.astronetes.io/v1alpha1
kind: Recovery
metadata:
  name: recover
spec:
  plugin: kubernetes-objects-to-kubernetes
` + rest
}

// ofStandby is the config of a Recovery of the good LiveSynchronization.
const ofStandby = "  config: {liveSynchronizationName: standby}\n"

// inlineWithout is the config of a Recovery that has all of it, less one part.
func inlineWithout(part string) string {
	return strings.Replace(`  config:
    liveSynchronizationName: gone
    liveSynchronizationNamespace: elsewhere
    destinationName: destination
    bucketName: originals
    replication:
      resources:
        - group: apps
          version: v1
          resource: deployments
          recoveryProcess:
            fromOriginal: {enabled: true}
            fromPatch:
              - {op: replace, path: /spec/replicas, value: 1}
`, part, "", 1)
}

const entry = "spec.config.replication.resources[0]"

var badManifests = map[string]bad{
	// types
	"suspend is a string":       {old: "suspend: false", new: `suspend: "no"`, field: "spec.suspend", want: "expected true or false, got a string"},
	"sourceName is a number":    {old: "sourceName: source", new: "sourceName: 5", field: "spec.config.sourceName", want: "expected a string (in quotes), got an integer"},
	"resources is a mapping":    {old: "regex: [\"web-.*\"]", new: "regex: web", field: entry + ".filters.nameSelector.regex", want: "expected a list, got a string"},
	"tasks is a string":         {old: "concurrentTasks: 16", new: `concurrentTasks: "16"`, field: "spec.config.components.synchronizer.concurrentTasks", want: "must be of type integer"},
	"tasks is zero":             {old: "concurrentTasks: 16", new: "concurrentTasks: 0", field: "spec.config.components.synchronizer.concurrentTasks", want: "greater than or equal to 1"},
	"period is a number":        {old: "resyncPeriod: 30m", new: "resyncPeriod: 30", field: "spec.config.replication.resyncPeriod", want: "must be of type string"},
	"spec is a list":            {old: "spec:\n  secretName: source-kubeconfig", new: "spec: []", object: "KubernetesCluster default/source", field: "spec", want: "must be of type object"},
	"qps is negative":           {old: "secretName: source-kubeconfig", new: "secretName: source-kubeconfig\n  qps: -1", object: "KubernetesCluster default/source", field: "spec.qps", want: "greater than or equal to 0"},
	"qps is too large":          {old: "secretName: source-kubeconfig", new: "secretName: source-kubeconfig\n  qps: 99999999999", object: "KubernetesCluster default/source", field: "spec.qps", want: "int32"},
	"tasks is a fraction":       {old: "concurrentTasks: 16", new: "concurrentTasks: 1.5", field: "spec.config.components.synchronizer.concurrentTasks", want: "must be of type int"},
	"label is a number":         {old: "matchLabels: {env: pre}", new: "matchLabels: {env: 5}", field: entry + ".filters.namespaceSelector.matchLabels.env", want: "expected a string (in quotes), got an integer"},
	"annotation is a boolean":   {old: "name: standby", new: "name: standby\n  annotations: {a: true}", field: "metadata.annotations[a]", want: "expected a string (in quotes), got a boolean"},
	"bad quantity":              {old: "cpu: 500m", new: "cpu: lots", field: "spec.config.components.synchronizer.resources.limits.cpu", want: "expected a quantity such as 500m"},
	"secret value is a number":  {old: "accessKeyID: id", new: "accessKeyID: 5", object: "Secret default/bucket-credentials", field: "stringData[accessKeyID]", want: "expected a string, got a number"},
	"secret data is not base64": {old: "stringData:\n  accessKeyID: id", new: "data:\n  accessKeyID: '***'", object: "Secret default/bucket-credentials", field: "data[accessKeyID]", want: "expected base64"},

	// unknown, misspelt and duplicate fields
	"misspelt field":          {old: "sourceName: source", new: "sourcename: source", field: "spec.config.sourcename", want: "did you mean sourceName?"},
	"unknown field":           {old: "suspend: false", new: "suspended: false\n  priority: 5", field: "spec.priority", want: "expected one of config, plugin, suspend"},
	"unknown field of filter": {old: "nameSelector:\n", new: "nameSelectors: {}\n            nameSelector:\n", field: entry + ".filters.nameSelectors", want: "did you mean nameSelector?"},
	"unknown top-level field": {old: "metadata:\n  name: standby", new: "specs: {}\nmetadata:\n  name: standby", field: "specs", want: "did you mean spec?"},
	"unknown metadata":        {old: "name: standby", new: "name: standby\n  lables: {}", field: "metadata.lables", want: "unknown field"},
	"unknown field of secret": {old: "stringData:\n  accessKeyID", new: "stringdata: {}\nstringData:\n  accessKeyID", object: "Secret default/bucket-credentials", field: "stringdata", want: "did you mean stringData?"},
	"duplicate field":         {old: "sourceName: source", new: "sourceName: source\n    sourceName: other", field: "spec.config.sourceName", want: "expected each field once: it stands in line"},
	"unknown component":       {old: "synchronizer: {", new: "sychronizer: {", field: "spec.config.components.sychronizer", want: "did you mean synchronizer?"},

	// values
	"no plugin":               {old: "  plugin: kubernetes-objects-to-kubernetes\n", field: "spec.plugin", want: "Required value: expected a string (Plugin chooses what is synchronized)"},
	"unknown plugin":          {old: "plugin: kubernetes-objects-to-kubernetes", new: "plugin: k8s-to-k8s", field: "spec.plugin", want: `supported values: "kubernetes-objects-to-kubernetes"`},
	"no config":               {file: "apiVersion: automation.astronetes.io/v1alpha1\nkind: LiveSynchronization\nmetadata: {name: second}\nspec: {plugin: kubernetes-objects-to-kubernetes}\n", object: "LiveSynchronization default/second", field: "spec.config", want: "Required value: expected a mapping"},
	"no source":               {old: "    sourceName: source\n", field: "spec.config.sourceName", want: "Required value: expected a string"},
	"empty destination":       {old: "destinationName: destination", new: `destinationName: ""`, field: "spec.config.destinationName", want: "at least 1 chars long"},
	"no version":              {old: "          version: v1\n", field: entry + ".version", want: "Required value: expected a string (Version of the resource, such as v1)"},
	"version is a number":     {old: "version: v1\n          resource: dep", new: "version: 1\n          resource: dep", field: entry + ".version", want: "must be of type string"},
	"version with group":      {old: "version: v1\n          resource: dep", new: "version: apps/v1\n          resource: dep", field: entry + ".version", want: "expected an API version such as v1"},
	"no resource":             {old: "          resource: deployments\n", field: entry + ".resource", want: "Required value"},
	"subresource":             {old: "resource: deployments", new: "resource: deployments/status", field: entry + ".resource", want: "expected the name of a resource such as deployments"},
	"group with version":      {old: "group: apps", new: "group: apps/v1", field: entry + ".group", want: "expected an API group such as apps"},
	"group core":              {old: "group: apps", new: "group: core", field: entry + ".group", want: "the core group is written as the empty string"},
	"no resources":            {file: second("second", "source", "destination", "")[:strings.Index(second("second", "source", "destination", ""), "      resources:")] + "      resources: []\n", object: "LiveSynchronization default/second", field: "spec.config.replication.resources", want: "should have at least 1 items"},
	"negative period":         {old: "resyncPeriod: 30m", new: "resyncPeriod: -30m", field: "spec.config.replication.resyncPeriod", want: "expected a duration that is not negative"},
	"garbage period":          {old: "resyncPeriod: 30m", new: "resyncPeriod: hourly", field: "spec.config.replication.resyncPeriod", want: "expected a duration that is not negative, such as 1h"},
	"negative outer period":   {old: "bucketName: originals", new: "bucketName: originals\n    resyncPeriod: -1s", field: "spec.config.resyncPeriod", want: "expected a duration that is not negative"},
	"period without a unit":   {old: "resyncPeriod: 30m", new: `resyncPeriod: "30"`, field: "spec.config.replication.resyncPeriod", want: "expected a duration"},
	"period of an eon":        {old: "resyncPeriod: 30m", new: "resyncPeriod: 99999999999h", field: "spec.config.replication.resyncPeriod", want: "at most 292 years"},
	"unknown deletion policy": {old: "resyncPeriod: 30m", new: "deletionPolicy: Keep", field: "spec.config.replication.deletionPolicy", want: `supported values: "Delete", "Orphan"`},
	"unknown log level":       {old: "logLevel: debug", new: "logLevel: verbose", field: "spec.config.components.synchronizer.logLevel", want: `supported values: "debug"`},
	"alias beside its name":   {old: "synchronizer: {", new: "nats: {}\n      stream: {}\n      synchronizer: {", field: "spec.config.components.nats", want: "nats is an alias of stream: set one of the two"},

	// patterns and selectors
	"neither regex nor glob":      {old: `"web-.*"`, new: `"web-("`, field: entry + ".filters.nameSelector.regex[0]", want: "expected an RE2 regular expression such as config.* or a glob such as *.test"},
	"bad pattern with a wildcard": {old: `"web-.*"`, new: `"*(web"`, field: entry + ".filters.nameSelector.regex[0]", want: "or a glob"},
	"bad glob":                    {old: `regex: ["web-.*"]`, new: `excludeRegex: [ok, "*[a-"]`, field: entry + ".filters.nameSelector.excludeRegex[1]", want: "or a glob"},
	"lookahead":                   {old: `regex: ["web-.*"]`, new: `includeRegex: ["(?!web).*"]`, field: entry + ".filters.nameSelector.includeRegex[0]", want: "RE2"},
	"pattern that closes a group": {old: `"web-.*"`, new: `"a)|(b"`, field: entry + ".filters.nameSelector.regex[0]", want: "RE2"},
	"empty pattern":               {old: `"web-.*"`, new: `""`, field: entry + ".filters.nameSelector.regex[0]", want: "at least 1 chars long"},
	"unknown selector operator":   {old: "operator: In,", new: "operator: Is,", field: entry + ".filters.selector.matchExpressions[0].operator", want: "expected In, NotIn, Exists or DoesNotExist"},
	"selector without values":     {old: "operator: In, values: [front]", new: "operator: In", field: entry + ".filters.selector.matchExpressions[0].values", want: "must be specified when `operator` is 'In' or 'NotIn'"},
	"selector with a bad key":     {old: "{key: tier,", new: "{key: 'a b',", field: entry + ".filters.selector.matchExpressions[0].key", want: "name part must consist of"},
	"selector with a bad value":   {old: "matchLabels: {env: pre}", new: "matchLabels: {env: 'a b'}", field: entry + ".filters.namespaceSelector.matchLabels", want: "a valid label must be"},

	// patches
	"unknown patch operation":   {old: "op: replace", new: "op: set", field: entry + ".transformation.patch[0].op", want: `supported values: "add", "replace", "remove", "delete"`},
	"pointer without a slash":   {old: "path: /spec/replicas", new: "path: spec.replicas", field: entry + ".transformation.patch[0].path", want: "expected a JSON pointer that begins with /"},
	"pointer with a bad escape": {old: "x~1y", new: "x~2y", field: entry + ".recoveryProcess.fromPatch[0].path", want: "~ is written ~0"},
	"empty pointer":             {old: "path: /spec/replicas", new: `path: ""`, field: entry + ".transformation.patch[0].path", want: "expected a JSON pointer"},
	"no value for replace":      {old: "                value: 0\n", field: entry + ".transformation.patch[0].value", want: "expected any JSON value for replace; 0, false, \"\" and null are values"},
	"no value for add":          {old: "                value: \"\"\n", field: entry + ".recoveryProcess.fromPatch[0].value", want: "expected any JSON value for add"},
	"no path":                   {old: "                path: /spec/replicas\n", field: entry + ".transformation.patch[0].path", want: "Required value: expected a string (Path is a JSON pointer"},
	"patch is a mapping":        {old: "            patch:\n              - op: replace\n                path: /spec/replicas\n                value: 0", new: "            patch: {op: remove, path: /spec}", field: entry + ".transformation.patch", want: "must be of type array"},

	// references
	"missing source":               {old: "sourceName: source", new: "sourceName: elsewhere", field: "spec.config.sourceName", want: `Not found: "elsewhere": expected the name of a KubernetesCluster in namespace default among the manifests; there is destination, source`},
	"missing bucket":               {old: "bucketName: originals", new: "bucketName: lost", field: "spec.config.bucketName", want: "expected the name of a Bucket in namespace default"},
	"name with a slash":            {old: "sourceName: source", new: "sourceName: other/source", field: "spec.config.sourceName", want: "a name with / is not accepted"},
	"bucket with a slash":          {old: "bucketName: originals", new: "bucketName: other/originals", field: "spec.config.bucketName", want: "must be the name of a Bucket in the namespace of the LiveSynchronization"},
	"secret with a slash":          {old: "secretName: source-kubeconfig", new: "secretName: kube-system/x", object: "KubernetesCluster default/source", field: "spec.secretName", want: "a name with / is not accepted"},
	"cluster of another namespace": {old: "kind: KubernetesCluster\nmetadata:\n  name: source", new: "kind: KubernetesCluster\nmetadata:\n  name: source\n  namespace: other", field: "spec.config.sourceName", want: "there is one in namespace other, which cannot be used from another"},
	"original without a bucket":    {old: "    bucketName: originals\n", field: "spec.config.bucketName", want: "must name the Bucket that recoveryProcess.fromOriginal restores from"},
	"source is destination":        {old: "destinationName: destination", new: "destinationName: source", field: "spec.config.destinationName", want: "must name another KubernetesCluster than sourceName"},
	"same server":                  {old: "https://destination.example:6443", new: "https://SOURCE.example:6443/", field: "spec.config.destinationName", want: "lead to the same cluster"},
	"second on a cluster":          {file: second("second", "source", "destination", ""), object: "LiveSynchronization default/second", field: "spec.config.sourceName", want: "is used by LiveSynchronization standby"},
	"same name twice":              {file: second("standby", "source", "destination", ""), field: "metadata.name", want: "expected each LiveSynchronization once; it is in"},

	// clusters and their kubeconfigs
	"missing secret":            {old: "secretName: source-kubeconfig", new: "secretName: none", object: "KubernetesCluster default/source", field: "spec.secretName", want: "expected the name of a Secret in namespace default"},
	"secret without its key":    {old: "kubeconfig.yaml: |", new: "config: |", object: "KubernetesCluster default/source", field: "spec.secretName", want: "expected one under the key kubeconfig.yaml, kubeconfig, value"},
	"kubeconfig is no YAML":     {old: "current-context: main", new: "{", object: "KubernetesCluster default/source", field: "spec.secretName", want: "expected a kubeconfig"},
	"no current context":        {old: "current-context: main\n", new: "current-context: ''\n", object: "KubernetesCluster default/source", field: "spec.secretName", want: "expected a kubeconfig with a current-context"},
	"missing context":           {old: "secretName: source-kubeconfig", new: "secretName: source-kubeconfig\n  context: prod", object: "KubernetesCluster default/source", field: "spec.context", want: `expected a kubeconfig with a context "prod"; it has main`},
	"context without cluster":   {old: "{cluster: main, user: main}", new: "{cluster: lost, user: main}", object: "KubernetesCluster default/source", field: "spec.secretName", want: `to name a cluster of the kubeconfig; it names "lost"`},
	"server is no URL":          {old: "https://source.example:6443", new: "source.example:6443", object: "KubernetesCluster default/source", field: "spec.secretName", want: "to be a URL such as https://host:6443"},
	"kubeconfig runs a program": {old: "user: {token: not-a-real-token}", new: "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}}", object: "KubernetesCluster default/source", field: "spec.secretName", want: "--allow-kubeconfig-exec"},
	"kubeconfig names a file":   {old: "user: {token: not-a-real-token}", new: "user: {tokenFile: /etc/passwd}", object: "KubernetesCluster default/source", field: "spec.secretName", want: "tokenFile names a file"},
	"two ways to a cluster":     {old: "secretName: source-kubeconfig", new: "secretName: source-kubeconfig\n  inCluster: true", object: "KubernetesCluster default/source", field: "spec", want: "exactly one of secretName, inCluster: true and kubeconfigFile must be set"},
	"no way to a cluster":       {old: "secretName: source-kubeconfig", new: "qps: 5", object: "KubernetesCluster default/source", field: "spec", want: "exactly one of"},
	"in cluster, outside":       {old: "secretName: source-kubeconfig", new: "inCluster: true", object: "KubernetesCluster default/source", field: "spec.inCluster", want: "expected to run in a pod"},
	"missing kubeconfig file":   {old: "secretName: source-kubeconfig", new: "kubeconfigFile: none.yaml", object: "KubernetesCluster default/source", field: "spec.kubeconfigFile", want: "expected the path of a kubeconfig file"},

	// buckets
	"endpoint with a scheme":  {old: "endpoint: localhost:9000", new: "endpoint: http://localhost:9000", object: "Bucket default/originals", field: "spec.generic.endpoint", want: "must be a host or host:port without scheme or path"},
	"bucket without a secret": {old: "    secretName: bucket-credentials\n", object: "Bucket default/originals", field: "spec", want: "generic.secretName must name the Secret"},
	"bucket secret lacks key": {old: "  secretAccessKey: key\n", object: "Bucket default/originals", field: "spec.generic.secretName", want: "lacks the key secretAccessKey"},

	// recoveries
	"recovery of nothing":              {file: recovery("  config: {}\n"), object: rec, field: "spec.config.liveSynchronizationName", want: "Required value: expected a string (LiveSynchronizationName names the LiveSynchronization that is recovered"},
	"recovery without a plugin":        {file: strings.Replace(recovery(ofStandby), "  plugin: kubernetes-objects-to-kubernetes\n", "", 1), object: rec, field: "spec.plugin", want: "Required value: expected a string"},
	"recovery without a config":        {file: recovery(""), object: rec, field: "spec.config", want: "Required value: expected a mapping"},
	"recovery of an unknown one":       {file: recovery("  config: {liveSynchronizationName: stand-by}\n"), object: rec, field: "spec.config.liveSynchronizationName", want: `Not found: "stand-by": expected the name of a LiveSynchronization in namespace default among the manifests; there is standby; without its manifest, give destinationName and replication`},
	"recovery from another namespace":  {file: strings.Replace(recovery(ofStandby), "name: recover", "name: recover\n  namespace: other", 1), object: "Recovery other/recover", field: "spec.config.liveSynchronizationName", want: "there is one in namespace default, which cannot be used from another"},
	"recovery across namespaces":       {file: recovery("  config: {liveSynchronizationName: standby, liveSynchronizationNamespace: default}\n"), object: rec, field: "spec.config.liveSynchronizationNamespace", want: "is for an inline configuration"},
	"recovery with a slash":            {file: recovery("  config: {liveSynchronizationName: default/standby}\n"), object: rec, field: "spec.config.liveSynchronizationName", want: "a name with / is not accepted"},
	"half an inline configuration":     {file: recovery("  config: {liveSynchronizationName: standby, bucketName: originals}\n"), object: rec, field: "spec.config.replication", want: "must be given in an inline configuration"},
	"inline without a destination":     {file: recovery(inlineWithout("    destinationName: destination\n")), object: rec, field: "spec.config.destinationName", want: "Required value: must name the KubernetesCluster to recover"},
	"inline with an empty list":        {file: recovery(strings.Split(inlineWithout(""), "      resources:")[0] + "      resources: []\n"), object: rec, field: "spec.config.replication.resources", want: "should have at least 1 items"},
	"inline original without a bucket": {file: recovery(inlineWithout("    bucketName: originals\n")), object: rec, field: "spec.config.bucketName", want: "must name the Bucket that recoveryProcess.fromOriginal restores from"},
	"inline with one cluster twice":    {file: recovery(strings.Replace(inlineWithout(""), "    dest", "    sourceName: destination\n    dest", 1)), object: rec, field: "spec.config.destinationName", want: "must name another KubernetesCluster than sourceName"},
	"inline with a missing cluster":    {file: recovery(strings.Replace(inlineWithout(""), "destinationName: destination", "destinationName: lost", 1)), object: rec, field: "spec.config.destinationName", want: `Not found: "lost": expected the name of a KubernetesCluster in namespace default among the manifests; there is destination, source`},
	"inline with a missing source":     {file: recovery(strings.Replace(inlineWithout(""), "    dest", "    sourceName: lost\n    dest", 1)), object: rec, field: "spec.config.sourceName", want: `Not found: "lost"`},
	"inline with a missing bucket":     {file: recovery(strings.Replace(inlineWithout(""), "bucketName: originals", "bucketName: lost", 1)), object: rec, field: "spec.config.bucketName", want: `Not found: "lost": expected the name of a Bucket in namespace default among the manifests; there is originals`},
	"inline patch without a value":     {file: recovery(strings.Replace(inlineWithout(""), ", value: 1}", "}", 1)), object: rec, field: entry + ".recoveryProcess.fromPatch[0].value", want: "expected any JSON value for replace"},
	"inline bad pattern":               {file: recovery(inlineWithout("") + "          filters: {nameSelector: {regex: [\"web-(\"]}}\n"), object: rec, field: entry + ".filters.nameSelector.regex[0]", want: "expected an RE2 regular expression"},
	"inline bad pointer":               {file: recovery(strings.Replace(inlineWithout(""), "path: /spec/replicas", "path: spec", 1)), object: rec, field: entry + ".recoveryProcess.fromPatch[0].path", want: "expected a JSON pointer"},
	"inline period of an eon":          {file: recovery(strings.Replace(inlineWithout(""), "    replication:\n", "    replication:\n      resyncPeriod: 99999999999h\n", 1)), object: rec, field: "spec.config.replication.resyncPeriod", want: "at most 292 years"},
	"recovery of the future":           {file: recovery(ofStandby + "  pointInTime: 2999-01-01T00:00:00Z\n"), object: rec, field: "spec.pointInTime", want: `"2999-01-01T00:00:00Z": expected a moment in the past; it is now`},
	"moment without a zone":            {file: recovery(ofStandby + "  pointInTime: 2026-01-01T00:00:00\n"), object: rec, field: "spec.pointInTime", want: "expected an RFC 3339 time such as"},
	"moment that is a date":            {file: recovery(ofStandby + "  pointInTime: 2026-01-01\n"), object: rec, field: "spec.pointInTime", want: "expected an RFC 3339 time such as"},
	"moment of a 13th month":           {file: recovery(ofStandby + "  pointInTime: 2026-13-01T00:00:00Z\n"), object: rec, field: "spec.pointInTime", want: "date-time"},
	"moment from the bucket":           {file: recovery(ofStandby + "  pointInTime: 2026-01-01T00:00:00Z\n  from: bucket\n"), object: rec, field: "spec.from", want: "must be log or auto with pointInTime"},
	"from nowhere":                     {file: recovery(ofStandby + "  from: tape\n"), object: rec, field: "spec.from", want: `supported values: "bucket", "log", "auto"`},
	"from a bucket there is not":       {file: recovery(strings.Replace(inlineWithout("    bucketName: originals\n"), "{enabled: true}", "{}", 1) + "  from: bucket\n"), object: rec, field: "spec.from", want: "must be log or auto without bucketName"},
	"misspelt field of a recovery":     {file: recovery(ofStandby + "  dryrun: true\n"), object: rec, field: "spec.dryrun", want: "did you mean dryRun?"},
	"held back is a string":            {old: "resyncPeriod: 30m", new: `holdBackWebhooks: "no"`, field: "spec.config.replication.holdBackWebhooks", want: "expected true or false, got a string"},

	// documents
	"no kind":             {file: "apiVersion: v1\nmetadata: {name: a}\n", object: "-", field: "kind", want: "Required value: expected one of Bucket, Database, KubernetesCluster, LiveSynchronization, Recovery, Secret, Synchronization, SynchronizationPlan, Zookeeper"},
	"no apiVersion":       {file: "kind: Secret\nmetadata: {name: a}\n", object: "Secret default/a", field: "apiVersion", want: "Required value"},
	"unknown kind":        {file: "apiVersion: automation.astronetes.io/v1alpha1\nkind: LiveSync\nmetadata: {name: a}\n", object: "LiveSync default/a", field: "kind", want: "is not a kind afterimage run reads; expected one of Bucket"},
	"wrong apiVersion":    {old: "automation.astronetes.io/v1alpha1", new: "automation.astronetes.io/v1", object: "LiveSynchronization default/standby", field: "apiVersion", want: "expected automation.astronetes.io/v1alpha1 for kind LiveSynchronization"},
	"no metadata":         {file: "apiVersion: v1\nkind: Secret\n", object: "Secret", field: "metadata", want: "Required value: expected a mapping with at least a name"},
	"no name":             {file: "apiVersion: v1\nkind: Secret\nmetadata: {generateName: a-}\n", object: "Secret", field: "metadata.name", want: "Required value: expected a name"},
	"bad name":            {old: "name: standby", new: "name: Stand/By", object: "LiveSynchronization default/Stand/By", field: "metadata.name", want: "RFC 1123 subdomain"},
	"a list of documents": {file: "- apiVersion: v1\n", object: "-", want: "expected a manifest (a mapping with apiVersion, kind, metadata and spec), got a list"},
	"broken YAML":         {old: "config:\n    sourceName", new: "config\n    sourceName", object: "-", want: "expected valid YAML"},
	"an empty file":       {file: "# nothing yet\n", object: "-", want: "expected at least one manifest; the file is empty"},
}

func TestBadManifestsAreRefused(t *testing.T) {
	all := allBad(t)
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			files, wantFile := map[string]string{"all.yaml": good()}, "all.yaml"
			if tc.old != "" {
				if !strings.Contains(good(), tc.old) {
					t.Fatalf("%q is not in the good manifest", tc.old)
				}
				files["all.yaml"] = breakOnce(good(), tc.old, tc.new)
			}
			if tc.file != "" {
				files["second.yaml"], wantFile = tc.file, "second.yaml"
			}
			set, err := Load([]string{write(t, files)})
			if err == nil || set != nil {
				t.Fatalf("accepted; want an error about %s: %s", tc.field, tc.want)
			}
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("%T is not Errors", err)
			}
			object := tc.object
			switch object {
			case "":
				object = live
			case "-":
				object = ""
			}
			for _, e := range all {
				if strings.HasSuffix(e.File, "/"+wantFile) && e.Object == object && e.Field == tc.field && strings.Contains(e.Detail, tc.want) {
					for _, part := range []string{wantFile, e.Object, e.Field, e.Detail} {
						if !strings.Contains(e.Error(), part) {
							t.Errorf("%q lacks %q", e.Error(), part)
						}
					}
					return
				}
			}
			t.Errorf("want %s: %s: %s: %s\ngot:\n%v", wantFile, object, tc.field, tc.want, err)
		})
	}
}

// allBad are those of both plugins.
func allBad(t testing.TB) map[string]bad {
	t.Helper()
	all := maps.Clone(badManifests)
	maps.Copy(all, badNodes)
	if len(all) != len(badManifests)+len(badNodes) {
		t.Fatal("two cases of one name")
	}
	return all
}

// breakOnce replaces the last place of old for what belongs to the
// LiveSynchronization at the end, and the first for all else.
func breakOnce(s, old, new string) string {
	if i := strings.LastIndex(s, old); i >= 0 && i > strings.Index(s, "kind: LiveSynchronization") {
		return s[:i] + new + s[i+len(old):]
	}
	return strings.Replace(s, old, new, 1)
}
