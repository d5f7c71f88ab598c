package manifest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/testcert"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// certificate is of an authority made for this run.
var authority, certificate = func() (*testcert.Authority, testcert.Pair) {
	a, err := testcert.NewAuthority("manifest")
	if err != nil {
		panic(err)
	}
	pair, err := a.Serve()
	if err != nil {
		panic(err)
	}
	return a, pair
}()

// goodNodes are manifests of ZooKeeper without error: two databases, one of each
// kind, and one automation of each kind.
var goodNodes = `apiVersion: v1
kind: Secret
metadata:
  name: zk-login
stringData:
  username: copier
  password: |
    hunter2
---
apiVersion: v1
kind: Secret
metadata:
  name: zk-tls
stringData:
  ca.crt: |
` + indent(string(authority.PEM), "    ") + `  tls.crt: |
` + indent(string(certificate.Certificate), "    ") + `  tls.key: |
` + indent(string(certificate.Key), "    ") + `---
apiVersion: assets.astronetes.io/v1alpha1
kind: Database
metadata:
  name: zk-a
spec:
  zookeeper:
    client:
      servers: ["a-0.example:2181", "[2001:db8::1]:2181"]
      chroot: /prod
      tls:
        enabled: true
        secretName: zk-tls
    sessionTimeout: 20s
    secretName: zk-login
---
apiVersion: assets.astronetes.io/v1alpha1
kind: Zookeeper
metadata:
  name: zk-b
spec:
  client:
    servers: ["b-0.example:2181"]
---
apiVersion: automation.astronetes.io/v1alpha1
kind: Synchronization
metadata:
  name: once
spec:
  plugin: zookeeper-to-zookeeper-nodes
  config:
    sourceName: zk-a
    destinationName: zk-b
    rootPath: /once
    createRootPath: true
  backoffLimit: 2
  activeDeadlineSeconds: 600
---
apiVersion: automation.astronetes.io/v1alpha1
kind: SynchronizationPlan
metadata:
  name: hourly
spec:
  schedule: "15 * * * *"
  timeZone: Europe/Madrid
  template:
    metadata:
      labels: {team: a}
    spec:
      plugin: zookeeper-to-zookeeper-nodes
      config:
        sourceName: zk-a
        destinationName: zk-b
        rootPath: /hourly
---
apiVersion: automation.astronetes.io/v1alpha1
kind: LiveSynchronization
metadata:
  name: nodes
spec:
  plugin: zookeeper-nodes-to-zookeeper
  config:
    sourceName: zk-a
    destinationName: zk-b
    rootPath: /live/config
    ignoreEphemeral: true
    excludePathRegexp: ^/live/config/locks
    copyACL: true
    resyncPeriod: 5m
`

// nodes are the good manifests with the first old replaced by new.
func nodes(old, new string) string {
	if !strings.Contains(goodNodes, old) {
		panic(fmt.Sprintf("%q is not in the good manifests of ZooKeeper", old))
	}
	return strings.Replace(goodNodes, old, new, 1)
}

// and are the good manifests with others after them.
func and(more ...string) string {
	return goodNodes + "---\n" + strings.Join(more, "---\n")
}

// zkDatabase is a manifest of one.
func zkDatabase(name, servers, chroot string) string {
	return "apiVersion: assets.astronetes.io/v1alpha1\nkind: Database\nmetadata: {name: " + name + "}\nspec: {zookeeper: {client: {servers: [" + servers + "], chroot: " + chroot + "}}}\n"
}

// zkLive is a manifest of a LiveSynchronization.
func zkLive(name, source, destination, root string) string {
	return "apiVersion: automation.astronetes.io/v1alpha1\nkind: LiveSynchronization\nmetadata: {name: " + name + "}\nspec: {plugin: zookeeper-to-zookeeper-nodes, config: {sourceName: " + source + ", destinationName: " + destination + ", rootPath: " + root + "}}\n"
}

// zkOnce is a manifest of a Synchronization with the rest of its spec.
func zkOnce(name, source, destination, root string) string {
	return strings.Replace(zkLive(name, source, destination, root), "LiveSynchronization", "Synchronization", 1)
}

// zkPlan is a manifest of a SynchronizationPlan.
func zkPlan(name, source, destination, root string) string {
	return "apiVersion: automation.astronetes.io/v1alpha1\nkind: SynchronizationPlan\nmetadata: {name: " + name + "}\nspec: {schedule: '@daily', template: {spec: {plugin: zookeeper-to-zookeeper-nodes, config: {sourceName: " + source + ", destinationName: " + destination + ", rootPath: " + root + "}}}}\n"
}

const (
	zkA        = "Database default/zk-a"
	zkB        = "Zookeeper default/zk-b"
	once       = "Synchronization default/once"
	hourly     = "SynchronizationPlan default/hourly"
	liveNodes  = "LiveSynchronization default/nodes"
	other      = "LiveSynchronization default/other"
	toZK       = "belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication"
	pathWords  = "expected an absolute path such as /app/config, without a / at its end, without empty, . or .. parts, and without control characters"
	cronFields = "expected five fields (minute, hour, day of month, month, day of week) or one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
	planConfig = "spec.template.spec.config"
)

var badNodes = map[string]bad{
	// databases
	"database without a database":          {file: nodes("  zookeeper:\n    client:\n      servers: [\"a-0.example:2181\", \"[2001:db8::1]:2181\"]\n      chroot: /prod\n      tls:\n        enabled: true\n        secretName: zk-tls\n    sessionTimeout: 20s\n    secretName: zk-login\n", "  {}\n"), object: zkA, field: "spec.zookeeper", want: "Required value: expected a mapping (Zookeeper is a ZooKeeper ensemble"},
	"database without servers":             {file: nodes(`servers: ["b-0.example:2181"]`, `chroot: /a`), object: zkB, field: "spec.client.servers", want: "Required value: expected a list (Servers of the ensemble, each as host:port)"},
	"database with no server":              {file: nodes(`servers: ["b-0.example:2181"]`, `servers: []`), object: zkB, field: "spec.client.servers", want: "should have at least 1 items"},
	"server twice":                         {file: nodes(`["b-0.example:2181"]`, `["b-0.example:2181", "b-0.example:2181"]`), object: zkB, field: "spec.client.servers[1]", want: `Duplicate value: "b-0.example:2181"`},
	"server without a port":                {file: nodes("b-0.example:2181", "b-0.example"), object: zkB, field: "spec.client.servers[0]", want: `Invalid value: "b-0.example": expected host:port such as zk-0.example:2181 or [2001:db8::1]:2181`},
	"server with a scheme":                 {file: nodes("b-0.example:2181", "zk://b-0.example:2181"), object: zkB, field: "spec.client.servers[0]", want: "expected host:port"},
	"server with a chroot":                 {file: nodes("b-0.example:2181", "b-0.example:2181/app"), object: zkB, field: "spec.client.servers[0]", want: "expected host:port"},
	"servers in one string":                {file: nodes("b-0.example:2181", "b-0.example:2181,b-1.example:2181"), object: zkB, field: "spec.client.servers[0]", want: "expected host:port"},
	"server on port 0":                     {file: nodes("b-0.example:2181", "b-0.example:0"), object: zkB, field: "spec.client.servers[0]", want: `Invalid value: "b-0.example:0": expected host:port with a port from 1 to 65535`},
	"server on port 65536":                 {file: nodes("a-0.example:2181", "a-0.example:65536"), object: zkA, field: "spec.zookeeper.client.servers[0]", want: "expected host:port with a port from 1 to 65535"},
	"chroot that is relative":              {file: nodes("chroot: /prod", "chroot: prod"), object: zkA, field: "spec.zookeeper.client.chroot", want: `Invalid value: "prod": ` + pathWords},
	"chroot of ZooKeeper itself":           {file: nodes("chroot: /prod", "chroot: /zookeeper/quota"), object: zkA, field: "spec.zookeeper.client.chroot", want: `Invalid value: "/zookeeper/quota": expected a path outside of /zookeeper, which is ZooKeeper's own`},
	"session of garbage":                   {file: nodes("sessionTimeout: 20s", "sessionTimeout: long"), object: zkA, field: "spec.zookeeper.sessionTimeout", want: "expected a duration that is not negative, such as 1h"},
	"session of an eon":                    {file: nodes("sessionTimeout: 20s", "sessionTimeout: 99999999999h"), object: zkA, field: "spec.zookeeper.sessionTimeout", want: "expected a duration of at most 292 years"},
	"session that is too short":            {file: nodes("sessionTimeout: 20s", "sessionTimeout: 999ms"), object: zkA, field: "spec.zookeeper.sessionTimeout", want: `Invalid value: "999ms": expected a duration from 1s to 10m0s`},
	"session that is too long":             {file: nodes("    servers: [\"b-0", "    servers: [\"b-1.example:2181\"]\n  sessionTimeout: 11m\n#"), object: zkB, field: "spec.sessionTimeout", want: `Invalid value: "11m0s": expected a duration from 1s to 10m0s`},
	"unknown field of a database":          {file: nodes("chroot: /prod", "chroots: /prod"), object: zkA, field: "spec.zookeeper.client.chroots", want: "did you mean chroot?"},
	"login that is missing":                {file: nodes("secretName: zk-login", "secretName: zk-logins"), object: zkA, field: "spec.zookeeper.secretName", want: `Not found: "zk-logins": expected the name of a Secret in namespace default`},
	"login with a slash":                   {file: nodes("secretName: zk-login", "secretName: other/zk-login"), object: zkA, field: "spec.zookeeper.secretName", want: "must be the name of a Secret in the same namespace; a name with / is not accepted"},
	"login without a password":             {file: nodes("  password: |\n    hunter2\n", ""), object: zkA, field: "spec.zookeeper.secretName", want: "Secret zk-login lacks the key password: expected the keys username, password"},
	"login without a name":                 {file: nodes("  username: copier\n", ""), object: zkA, field: "spec.zookeeper.secretName", want: "Secret zk-login lacks the key username: expected the keys username, password"},
	"login with a colon":                   {file: nodes("username: copier", "username: 'co:pier'"), object: zkA, field: "spec.zookeeper.secretName", want: "key username of Secret zk-login: expected a name without a colon"},
	"TLS neither on nor off":               {file: nodes("        enabled: true\n", ""), object: zkA, field: "spec.zookeeper.client.tls.enabled", want: "Required value: expected true or false (Enabled speaks TLS to the servers"},
	"certificates that are missing":        {file: nodes("secretName: zk-tls", "secretName: tls-zk"), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: `Not found: "tls-zk"`},
	"certificates with a slash":            {file: nodes("secretName: zk-tls", "secretName: other/zk-tls"), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: "a name with / is not accepted"},
	"certificates of another secret":       {file: nodes("secretName: zk-tls", "secretName: zk-login"), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: "Secret zk-login: expected the key ca.crt, or tls.crt and tls.key, or all three"},
	"authority that is none":               {file: nodes(indent(string(authority.PEM), "    "), "    none\n"), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: "Secret zk-tls: key ca.crt: expected at least one certificate in PEM"},
	"certificate without its key":          {file: nodes("  tls.key: |\n", "  tls.other: |\n"), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: "Secret zk-tls: lacks the key tls.key: expected it beside tls.crt"},
	"key without its certificate":          {file: nodes("  tls.crt: |\n", "  tls.other: |\n"), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: "Secret zk-tls: lacks the key tls.crt: expected it beside tls.key"},
	"certificate and key of others":        {file: nodes("  tls.crt: |\n"+indent(string(certificate.Certificate), "    "), "  tls.crt: |\n"+indent(string(authority.PEM), "    ")), object: zkA, field: "spec.zookeeper.client.tls.secretName", want: "Secret zk-tls: keys tls.crt and tls.key: expected a certificate and its private key in PEM"},
	"database and zookeeper of a name":     {file: nodes("name: zk-b", "name: zk-a"), object: "Zookeeper default/zk-a", field: "metadata.name", want: `Duplicate value: "zk-a": expected each Zookeeper once; a Database of this name, which is another way to write a Zookeeper, is in `},
	"zookeeper with a field too deep":      {file: nodes("  client:\n    servers: [\"b-0", "  zookeeper:\n    client:\n      servers: [\"b-0"), object: zkB, field: "spec.zookeeper", want: "unknown field: expected one of client, secretName, sessionTimeout"},
	"database with the fields of an alias": {file: and("apiVersion: assets.astronetes.io/v1alpha1\nkind: Database\nmetadata: {name: c}\nspec: {client: {servers: ['c:1']}}\n"), object: "Database default/c", field: "spec.client", want: "unknown field: expected one of zookeeper"},

	// the plugin and its config
	"plugin of no name":                {file: nodes("plugin: zookeeper-to-zookeeper-nodes", "plugin: zookeeper-to-zookeeper"), object: once, field: "spec.plugin", want: `supported values: "kubernetes-objects-to-kubernetes", "zookeeper-to-zookeeper-nodes", "zookeeper-nodes-to-zookeeper"`},
	"nodes without a root":             {file: nodes("    rootPath: /once\n", ""), object: once, field: "spec.config.rootPath", want: "Required value: expected the absolute path of the tree to synchronize, such as /app/config"},
	"plan without a root":              {file: nodes("        rootPath: /hourly\n", ""), object: hourly, field: planConfig + ".rootPath", want: "Required value: expected the absolute path of the tree to synchronize, such as /app/config"},
	"live without a root":              {file: nodes("    rootPath: /live/config\n", ""), object: liveNodes, field: "spec.config.rootPath", want: "Required value: expected the absolute path"},
	"nodes with replication":           {file: nodes("rootPath: /once", "rootPath: /once\n    replication: {resources: [{version: v1, resource: configmaps}]}"), object: once, field: "spec.config.replication", want: "Forbidden: belongs to the plugin kubernetes-objects-to-kubernetes; zookeeper-to-zookeeper-nodes takes rootPath"},
	"alias with replication":           {file: nodes("rootPath: /live/config", "rootPath: /live/config\n    replication: {resources: [{version: v1, resource: configmaps}]}"), object: liveNodes, field: "spec.config.replication", want: "Forbidden: belongs to the plugin kubernetes-objects-to-kubernetes"},
	"nodes with a bucket":              {file: nodes("rootPath: /once", "rootPath: /once\n    bucketName: originals"), object: once, field: "spec.config.bucketName", want: "Forbidden: belongs to the plugin kubernetes-objects-to-kubernetes; zookeeper-to-zookeeper-nodes stores nothing in a bucket"},
	"objects without replication":      {file: nodes("plugin: zookeeper-to-zookeeper-nodes", "plugin: kubernetes-objects-to-kubernetes"), object: once, field: "spec.config.replication", want: "Required value: expected a mapping (Replication says which objects are replicated, and how)"},
	"live objects without replication": {old: good()[strings.Index(good(), "    replication:\n"):strings.Index(good(), "    components:\n")], new: "", field: "spec.config.replication", want: "Required value: expected a mapping (Replication says which objects are replicated, and how)"},
	"objects with a root":              {old: "bucketName: originals", new: "bucketName: originals\n    rootPath: /a", field: "spec.config.rootPath", want: "Forbidden: " + toZK},
	"objects that create a root":       {old: "bucketName: originals", new: "bucketName: originals\n    createRootPath: false", field: "spec.config.createRootPath", want: "Forbidden: " + toZK},
	"objects that create a route":      {old: "bucketName: originals", new: "bucketName: originals\n    createRoutePath: true", field: "spec.config.createRoutePath", want: "Forbidden: " + toZK},
	"objects without ephemerals":       {old: "bucketName: originals", new: "bucketName: originals\n    ignoreEphemeral: true", field: "spec.config.ignoreEphemeral", want: "Forbidden: " + toZK},
	"objects with an exclusion":        {old: "bucketName: originals", new: "bucketName: originals\n    excludePathRegexp: a", field: "spec.config.excludePathRegexp", want: "Forbidden: " + toZK + " with filters"},
	"objects with their ACL":           {old: "bucketName: originals", new: "bucketName: originals\n    copyACL: true", field: "spec.config.copyACL", want: "Forbidden: " + toZK},
	"both names of createRootPath":     {file: nodes("createRootPath: true", "createRootPath: true\n    createRoutePath: false"), object: once, field: "spec.config.createRoutePath", want: "createRoutePath is an alias of createRootPath, and the two differ: set one of them"},
	"root that is relative":            {file: nodes("rootPath: /once", "rootPath: once"), object: once, field: "spec.config.rootPath", want: `Invalid value: "once": ` + pathWords},
	"root that is empty":               {file: nodes("rootPath: /once", `rootPath: ""`), object: once, field: "spec.config.rootPath", want: `Invalid value: "": ` + pathWords},
	"root with a slash at its end":     {file: nodes("rootPath: /once", "rootPath: /once/"), object: once, field: "spec.config.rootPath", want: `Invalid value: "/once/": ` + pathWords},
	"root with an empty part":          {file: nodes("rootPath: /hourly", "rootPath: /a//b"), object: hourly, field: planConfig + ".rootPath", want: `Invalid value: "/a//b": ` + pathWords},
	"root with a dot":                  {file: nodes("rootPath: /once", "rootPath: /a/./b"), object: once, field: "spec.config.rootPath", want: pathWords},
	"root with two dots":               {file: nodes("rootPath: /once", "rootPath: /a/.."), object: once, field: "spec.config.rootPath", want: pathWords},
	"root with a null character":       {file: nodes("rootPath: /once", `rootPath: "/a\0b"`), object: once, field: "spec.config.rootPath", want: pathWords},
	"root of ZooKeeper itself":         {file: nodes("rootPath: /once", "rootPath: /zookeeper"), object: once, field: "spec.config.rootPath", want: `Invalid value: "/zookeeper": expected a path outside of /zookeeper, which is ZooKeeper's own`},
	"root in ZooKeeper's own":          {file: nodes("rootPath: /hourly", "rootPath: /zookeeper/config"), object: hourly, field: planConfig + ".rootPath", want: "expected a path outside of /zookeeper"},
	"exclusion that is no expression":  {file: nodes("excludePathRegexp: ^/live/config/locks", "excludePathRegexp: '/live/(locks'"), object: liveNodes, field: "spec.config.excludePathRegexp", want: `Invalid value: "/live/(locks": expected an RE2 regular expression such as ^/app/locks$: error parsing regexp: missing closing ): ` + "`/live/(locks`"},
	"exclusion with a lookahead":       {file: nodes("excludePathRegexp: ^/live/config/locks", "excludePathRegexp: '/live/(?!a)'"), object: liveNodes, field: "spec.config.excludePathRegexp", want: "expected an RE2 regular expression"},
	"exclusion of the root":            {file: nodes("excludePathRegexp: ^/live/config/locks", "excludePathRegexp: config"), object: liveNodes, field: "spec.config.excludePathRegexp", want: `Invalid value: "config": expected an expression that does not match rootPath (/live/config) itself: nothing would be synchronized`},
	"exclusion of everything":          {file: nodes("rootPath: /hourly", "rootPath: /hourly\n        excludePathRegexp: .*"), object: hourly, field: planConfig + ".excludePathRegexp", want: "nothing would be synchronized"},
	"nodes with a period of garbage":   {file: nodes("resyncPeriod: 5m", "resyncPeriod: -5m"), object: liveNodes, field: "spec.config.resyncPeriod", want: "expected a duration that is not negative"},
	"plan with a period of an eon":     {file: nodes("rootPath: /hourly", "rootPath: /hourly\n        resyncPeriod: 99999999999h"), object: hourly, field: planConfig + ".resyncPeriod", want: "at most 292 years"},
	"misspelt field of nodes":          {file: nodes("createRootPath: true", "createRootpath: true"), object: once, field: "spec.config.createRootpath", want: "did you mean createRootPath?"},
	"misspelt field in a template":     {file: nodes("        rootPath: /hourly", "        rootpath: /hourly"), object: hourly, field: planConfig + ".rootpath", want: "did you mean rootPath?"},

	// what they name
	"source that is missing":             {file: nodes("sourceName: zk-a", "sourceName: zk"), object: once, field: "spec.config.sourceName", want: `Not found: "zk": expected the name of a Database in namespace default among the manifests; there is zk-a, zk-b`},
	"destination that is missing":        {file: nodes("        destinationName: zk-b", "        destinationName: zk"), object: hourly, field: planConfig + ".destinationName", want: `Not found: "zk": expected the name of a Database in namespace default`},
	"database of another namespace":      {file: nodes("name: zk-b", "name: zk-b\n  namespace: other"), object: once, field: "spec.config.destinationName", want: "there is one in namespace other, which cannot be used from another"},
	"source with a slash":                {file: nodes("sourceName: zk-a", "sourceName: default/zk-a"), object: once, field: "spec.config.sourceName", want: "must be the name of a Database in the namespace of the LiveSynchronization or Synchronization; a name with / is not accepted"},
	"plan with a slash":                  {file: nodes("        destinationName: zk-b", "        destinationName: default/zk-b"), object: hourly, field: planConfig + ".destinationName", want: "must be the name of a Database in the namespace"},
	"database that is its own":           {file: nodes("destinationName: zk-b", "destinationName: zk-a"), object: once, field: "spec.config.destinationName", want: "must name another Database than sourceName"},
	"cluster for a database":             {file: nodes("sourceName: zk-a", "sourceName: source"), object: once, field: "spec.config.sourceName", want: `Invalid value: "source": it is a KubernetesCluster: expected the name of a Database, which is what the plugin zookeeper-to-zookeeper-nodes takes`},
	"database for a cluster":             {file: and(second("mixed", "source", "zk-b", "")), object: "LiveSynchronization default/mixed", field: "spec.config.destinationName", want: `Invalid value: "zk-b": it is a Database: expected the name of a KubernetesCluster, which is what the plugin kubernetes-objects-to-kubernetes takes`},
	"objects of a missing cluster, once": {file: and(strings.Replace(second("k", "lost", "destination", ""), "LiveSynchronization", "Synchronization", 1)), object: "Synchronization default/k", field: "spec.config.sourceName", want: `Not found: "lost": expected the name of a KubernetesCluster in namespace default`},
	"objects onto themselves, once":      {file: and(strings.Replace(second("k", "source", "source", ""), "LiveSynchronization", "Synchronization", 1)), object: "Synchronization default/k", field: "spec.config.destinationName", want: "must name another KubernetesCluster than sourceName"},
	"one ensemble twice":                 {file: and(zkDatabase("c", "'B-0.example:2181'", "/"), zkOnce("self", "zk-b", "c", "/x")), object: "Synchronization default/self", field: "spec.config.destinationName", want: "Database c and Database zk-b (sourceName) lead to the same tree of the same ensemble, B-0.example:2181/x: expected two ensembles, or two trees of one that do not overlap"},
	"one ensemble by another server":     {file: and(zkDatabase("c", "'b-0.example:2181', 'b-1.example:2181'", "/"), zkOnce("self", "zk-b", "c", "/x")), object: "Synchronization default/self", field: "spec.config.destinationName", want: "lead to the same tree of the same ensemble"},
	"one ensemble and a tree in a tree":  {file: and(zkDatabase("c", "'b-0.example:2181'", "/x"), zkOnce("self", "zk-b", "c", "/x")), object: "Synchronization default/self", field: "spec.config.destinationName", want: "lead to the same tree of the same ensemble, b-0.example:2181/x/x"},

	// together
	"two live ones in a tree":        {file: and(zkLive("other", "zk-a", "zk-b", "/live")), object: other, field: "spec.config.rootPath", want: "writes to /live/config in the same ensemble: expected trees that do not overlap, since each would undo what the other does"},
	"two live ones of the same":      {file: and(zkLive("other", "zk-a", "zk-b", "/live/config")), object: other, field: "spec.config.rootPath", want: "LiveSynchronization default/nodes ("},
	"a run in a live tree":           {file: and(zkOnce("within", "zk-a", "zk-b", "/live/config/deep")), object: "Synchronization default/within", field: "spec.config.rootPath", want: "LiveSynchronization default/nodes ("},
	"a plan around a live tree":      {file: nodes("rootPath: /hourly", "rootPath: /"), object: liveNodes, field: "spec.config.rootPath", want: "SynchronizationPlan default/hourly ("},
	"a run by another way to a tree": {file: and(zkDatabase("c", "'b-0.example:2181'", "/live"), zkOnce("within", "zk-a", "c", "/config")), object: "Synchronization default/within", field: "spec.config.rootPath", want: "LiveSynchronization default/nodes ("},
	"a run of a live tree":           {file: and(zkOnce("same", "zk-a", "zk-b", "/live/config")), object: "Synchronization default/same", field: "spec.config.rootPath", want: "writes to /live/config in the same ensemble: expected trees that do not overlap, since the LiveSynchronization works on its nodes all the time; to copy them once, run \"afterimage sync\" with its name while it does not run"},
	"a plan of a live tree":          {file: nodes("rootPath: /hourly", "rootPath: /live/config"), object: liveNodes, field: "spec.config.rootPath", want: "SynchronizationPlan default/hourly ("},
	"a plan after its live tree":     {file: and(zkPlan("after", "zk-a", "zk-b", "/live/config")), object: "SynchronizationPlan default/after", field: planConfig + ".rootPath", want: "LiveSynchronization default/nodes ("},
	"a run of a suspended live tree": {file: and(strings.Replace(zkLive("rests", "zk-a", "zk-b", "/rests"), "spec: {", "spec: {suspend: true, ", 1), zkOnce("same", "zk-a", "zk-b", "/rests")), object: "Synchronization default/same", field: "spec.config.rootPath", want: "LiveSynchronization default/rests ("},
	"two live ones in a circle":      {file: and(strings.Replace(zkDatabase("a", "'a-0.example:2181'", "/prod"), "name: a}", "name: a}", 1), zkLive("other", "zk-b", "a", "/live")), object: other, field: "spec.config.rootPath", want: "synchronizes the same nodes in the other direction: expected one direction, since changes would go in circles"},

	// Synchronizations
	"retries below zero":             {file: nodes("backoffLimit: 2", "backoffLimit: -1"), object: once, field: "spec.backoffLimit", want: "greater than or equal to 0"},
	"a deadline of nothing":          {file: nodes("activeDeadlineSeconds: 600", "activeDeadlineSeconds: 0"), object: once, field: "spec.activeDeadlineSeconds", want: "greater than or equal to 1"},
	"kept for less than zero":        {file: nodes("activeDeadlineSeconds: 600", "ttlSecondsAfterFinished: -1"), object: once, field: "spec.ttlSecondsAfterFinished", want: "greater than or equal to 0"},
	"suspended synchronization":      {file: nodes("activeDeadlineSeconds: 600", "suspend: true"), object: once, field: "spec.suspend", want: "unknown field"},
	"generated name that is bad":     {file: nodes("name: once", "generateName: On_ce-"), object: "Synchronization", field: "metadata.generateName", want: `Invalid value: "On_ce-": a lowercase RFC 1123 subdomain`},
	"synchronization without a name": {file: nodes("name: once", "labels: {a: b}"), object: "Synchronization", field: "metadata.name", want: "Required value: expected a name or a generateName"},
	"plan with a generated name":     {file: nodes("name: hourly", "generateName: hourly-"), object: "SynchronizationPlan", field: "metadata.name", want: "Required value: expected a name (generateName is for a Synchronization"},
	"synchronization twice":          {file: and(zkOnce("once", "zk-a", "zk-b", "/other")), object: once, field: "metadata.name", want: `Duplicate value: "once": expected each Synchronization once; it is in `},

	// plans
	"plan without a schedule":        {file: nodes("  schedule: \"15 * * * *\"\n", ""), object: hourly, field: "spec.schedule", want: "Required value: expected a string (Schedule in five fields"},
	"plan with an empty schedule":    {file: nodes(`schedule: "15 * * * *"`, `schedule: " "`), object: hourly, field: "spec.schedule", want: `Invalid value: " ": ` + cronFields},
	"schedule of four fields":        {file: nodes("15 * * * *", "15 * * *"), object: hourly, field: "spec.schedule", want: `Invalid value: "15 * * *": ` + cronFields},
	"schedule with seconds":          {file: nodes("15 * * * *", "0 15 * * * *"), object: hourly, field: "spec.schedule", want: cronFields},
	"schedule of an unknown word":    {file: nodes("15 * * * *", "@often"), object: hourly, field: "spec.schedule", want: cronFields + `, got "@often"`},
	"schedule out of range":          {file: nodes("15 * * * *", "75 * * * *"), object: hourly, field: "spec.schedule", want: cronFields},
	"schedule with a zone":           {file: nodes("15 * * * *", "TZ=UTC 15 * * * *"), object: hourly, field: "spec.schedule", want: cronFields + ", without a time zone: use timeZone"},
	"schedule with a zone of cron's": {file: nodes("15 * * * *", "CRON_TZ=UTC 15 * * * *"), object: hourly, field: "spec.schedule", want: "without a time zone: use timeZone"},
	"schedule that never comes":      {file: nodes("15 * * * *", "0 0 31 2 *"), object: hourly, field: "spec.schedule", want: `Invalid value: "0 0 31 2 *": expected a schedule that comes to pass, "0 0 31 2 *" never does`},
	"zone that there is not":         {file: nodes("Europe/Madrid", "Europe/Atlantis"), object: hourly, field: "spec.timeZone", want: `Invalid value: "Europe/Atlantis": expected a time zone of the IANA database`},
	"zone by the word Local":         {file: nodes("Europe/Madrid", "Local"), object: hourly, field: "spec.timeZone", want: "expected a time zone of the IANA database"},
	"policy that there is not":       {file: nodes("timeZone: Europe/Madrid", "concurrencyPolicy: Queue"), object: hourly, field: "spec.concurrencyPolicy", want: `supported values: "Allow", "Forbid", "Replace"`},
	"starting deadline below zero":   {file: nodes("timeZone: Europe/Madrid", "startingDeadlineSeconds: -1"), object: hourly, field: "spec.startingDeadlineSeconds", want: "greater than or equal to 0"},
	"history below zero":             {file: nodes("timeZone: Europe/Madrid", "successfulRunsHistoryLimit: -1"), object: hourly, field: "spec.successfulRunsHistoryLimit", want: "greater than or equal to 0"},
	"failed history below zero":      {file: nodes("timeZone: Europe/Madrid", "failedRunsHistoryLimit: -1"), object: hourly, field: "spec.failedRunsHistoryLimit", want: "greater than or equal to 0"},
	"history by a CronJob's name":    {file: nodes("timeZone: Europe/Madrid", "successfulJobsHistoryLimit: 1"), object: hourly, field: "spec.successfulJobsHistoryLimit", want: "unknown field: expected one of concurrencyPolicy, failedRunsHistoryLimit, schedule, startingDeadlineSeconds, successfulRunsHistoryLimit"},
	"plan without a template":        {file: goodNodes[:strings.Index(goodNodes, "  template:\n")], object: hourly, field: "spec.template", want: "Required value: expected a mapping (Template of the Synchronizations)"},
	"template with a bad label":      {file: nodes("labels: {team: a}", "labels: {team: 'a b'}"), object: hourly, field: "spec.template.metadata.labels", want: "a valid label must be"},
	"template with a bad annotation": {file: nodes("labels: {team: a}", "annotations: {'a b': c}"), object: hourly, field: "spec.template.metadata.annotations", want: "name part must consist of"},
	"template with a name":           {file: nodes("labels: {team: a}", "name: a"), object: hourly, field: "spec.template.metadata.name", want: "unknown field: expected one of annotations, labels"},
	"plan with a long name":          {file: nodes("name: hourly", "name: "+strings.Repeat("h", 53)), object: "SynchronizationPlan default/" + strings.Repeat("h", 53), field: "", want: "metadata.name must be at most 52 characters"},

	// recoveries
	"recovery of nodes": {file: and(strings.Replace(recovery(ofStandby), "standby", "nodes", 1)), object: rec, field: "spec.config.liveSynchronizationName", want: "expected a LiveSynchronization with the plugin kubernetes-objects-to-kubernetes: LiveSynchronization nodes has zookeeper-to-zookeeper-nodes"},
}

func TestGoodNodesLoad(t *testing.T) {
	cases := map[string]struct{ reason, text string }{
		"as they are":                    {"nothing is wrong", goodNodes},
		"a plan beside a live tree":      {"its tree is another of the same ensembles", nodes("rootPath: /hourly", "rootPath: /live/other")},
		"a plan of the same source":      {"it writes to another ensemble", and(zkDatabase("c", "'c-0.example:2181'", "/"), zkOnce("copy", "zk-a", "c", "/live/config"))},
		"a plan of a live destination":   {"what is live is only read", and(zkDatabase("c", "'c-0.example:2181'", "/"), zkPlan("copy", "zk-b", "c", "/live/config"))},
		"a live one of a destination":    {"it takes what the plan writes elsewhere", and(zkDatabase("c", "'c-0.example:2181'", "/"), zkLive("onwards", "zk-b", "c", "/hourly"))},
		"runs in one tree":               {"runs end, and say what they did", nodes("rootPath: /hourly", "rootPath: /once/deep")},
		"siblings of one prefix":         {"/live/config-2 is not below /live/config", and(zkLive("other", "zk-a", "zk-b", "/live/config-2"))},
		"one ensemble, two trees":        {"they do not overlap", and(zkDatabase("c", "'b-0.example:2181'", "/c"), zkOnce("copy", "zk-b", "c", "/x"))},
		"/zookeeper below chroots":       {"there it is a name as any other", strings.Replace(nodes("/once", "/zookeeper"), "servers: [\"b-0.example:2181\"]", "servers: [\"b-0.example:2181\"]\n    chroot: /b", 1)},
		"both names of createRootPath":   {"they say the same", nodes("createRootPath: true", "createRootPath: true\n    createRoutePath: true")},
		"everything":                     {"/zookeeper is left out by whoever copies", nodes("rootPath: /once", "rootPath: /")[:strings.Index(nodes("rootPath: /once", "rootPath: /"), "---\napiVersion: automation.astronetes.io/v1alpha1\nkind: SynchronizationPlan")]},
		"names that begin with dots":     {"only . and .. mean something else", nodes("rootPath: /once", "rootPath: /...a/.b/..c/d.e")},
		"a descriptor and no zone":       {"the zone is that of the process", strings.Replace(nodes("15 * * * *", "@hourly"), "  timeZone: Europe/Madrid\n", "", 1)},
		"the longest session":            {"the bounds belong to it", nodes("sessionTimeout: 20s", "sessionTimeout: 10m")},
		"the shortest session":           {"the bounds belong to it", nodes("sessionTimeout: 20s", "sessionTimeout: 1s")},
		"no TLS and certificates for it": {"it is switched off", strings.Replace(nodes("enabled: true", "enabled: false"), "secretName: zk-tls", "secretName: none", 1)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := Load([]string{Stdin}, WithStdin([]byte(tc.text))); err != nil {
				t.Errorf("%s: %v", tc.reason, err)
			}
		})
	}
}

func TestEnsembleOptions(t *testing.T) {
	set, err := Load([]string{Stdin}, WithStdin([]byte(goodNodes)))
	if err != nil {
		t.Fatal(err)
	}
	a := set.EnsembleOptions(set.Database("default", "zk-a"))
	if a.TLS == nil || a.TLS.RootCAs == nil || len(a.TLS.Certificates) != 1 || a.TLS.InsecureSkipVerify {
		t.Errorf("TLS: %+v; want the authority and the certificate of the Secret", a.TLS)
	}
	a.TLS = nil
	want := ensemble.Options{
		Servers: []string{"a-0.example:2181", "[2001:db8::1]:2181"}, Chroot: "/prod", SessionTimeout: 20 * time.Second,
		Username: "copier", Password: "hunter2",
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("a Database: -want +got:\n%s", diff)
	}
	want = ensemble.Options{Servers: []string{"b-0.example:2181"}, SessionTimeout: v1alpha1.DefaultSessionTimeout}
	b := set.Database("default", "zk-b")
	if diff := cmp.Diff(want, set.EnsembleOptions(b)); diff != "" {
		t.Errorf("a Zookeeper: -want +got:\n%s", diff)
	}
	set.EnsembleOptions(b).Servers[0] = "elsewhere"
	if diff := cmp.Diff(want, set.EnsembleOptions(b)); diff != "" {
		t.Errorf("a change of the copy changed the set: -want +got:\n%s", diff)
	}
	for name, db := range map[string]*v1alpha1.Database{"nil": nil, "of no set": {}} {
		if diff := cmp.Diff(ensemble.Options{}, set.EnsembleOptions(db)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	insecure, err := Load([]string{Stdin}, WithStdin([]byte(nodes("secretName: zk-tls", "insecureSkipVerify: true"))))
	if err != nil {
		t.Fatal(err)
	}
	if o := insecure.EnsembleOptions(insecure.Database("default", "zk-a")); o.TLS == nil || !o.TLS.InsecureSkipVerify || o.TLS.RootCAs != nil {
		t.Errorf("TLS: %+v; want any certificate trusted", o.TLS)
	}
}

func TestSettingsOfNodes(t *testing.T) {
	set, err := Load([]string{Stdin}, WithStdin([]byte(goodNodes)))
	if err != nil {
		t.Fatal(err)
	}
	s := set.SettingsFor(set.LiveSynchronizations[0])
	if s.ResyncPeriod != 5*time.Minute || s.Source.Name != "zk-a" || s.Destination.Name != "zk-b" || s.Bucket.Name != "" {
		t.Errorf("%+v; want zk-a, zk-b, no bucket and 5m", s)
	}
}

// TestDefaultsOfRuns: they are filled in as a cluster would.
func TestDefaultsOfRuns(t *testing.T) {
	set, err := Load([]string{Stdin}, WithStdin([]byte(nodes("  backoffLimit: 2\n", ""))))
	if err != nil {
		t.Fatal(err)
	}
	run, plan := set.Synchronizations[0], set.SynchronizationPlans[0]
	if run.Spec.BackoffLimit == nil || *run.Spec.BackoffLimit != v1alpha1.DefaultBackoffLimit || run.Spec.Retries() != v1alpha1.DefaultBackoffLimit || run.Spec.TTLSecondsAfterFinished != nil {
		t.Errorf("backoffLimit %v, ttlSecondsAfterFinished %v", run.Spec.BackoffLimit, run.Spec.TTLSecondsAfterFinished)
	}
	p := plan.Spec
	if *p.SuccessfulRunsHistoryLimit != v1alpha1.DefaultSuccessfulRunsHistoryLimit || *p.FailedRunsHistoryLimit != v1alpha1.DefaultFailedRunsHistoryLimit ||
		p.ConcurrencyPolicy != v1alpha1.ConcurrencyForbid || p.Suspend || p.StartingDeadlineSeconds != nil || p.Template.Spec.Retries() != v1alpha1.DefaultBackoffLimit {
		t.Errorf("%+v", p)
	}
}

// TestGeneratedNamesAreOfTheContent: read again it is the same run, changed it is
// another, however it is written.
func TestGeneratedNamesAreOfTheContent(t *testing.T) {
	name := func(text string) types.NamespacedName {
		t.Helper()
		set, err := Load([]string{Stdin}, WithStdin([]byte(text)))
		if err != nil {
			t.Fatal(err)
		}
		s := set.Synchronizations[0]
		return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	}
	generated := nodes("name: once", "generateName: once-")
	first := name(generated)
	if prefix, rest, ok := strings.Cut(first.Name, "-"); !ok || prefix != "once" || len(rest) != generatedNameLength {
		t.Errorf("name %q; want once- and %d digits", first.Name, generatedNameLength)
	}
	for reason, text := range map[string]string{
		"the same":             generated,
		"with a comment":       strings.Replace(generated, "    rootPath: /once", "    # the tree\n    rootPath: /once", 1),
		"with other manifests": generated + "---\n" + zkDatabase("c", "'c:1'", "/"),
	} {
		if got := name(text); got != first {
			t.Errorf("%s: %s; want %s", reason, got, first)
		}
	}
	if got := name(strings.Replace(generated, "/once", "/twice", 1)); got == first {
		t.Errorf("another rootPath: %s again", got)
	}
	if got := name(nodes("name: once", "name: once\n  generateName: other-")); got.Name != "once" {
		t.Errorf("name %s; want once, which wins", got)
	}
}

// TestNodesShowNoSecret: neither in an error nor in what is printed of one.
func TestNodesShowNoSecret(t *testing.T) {
	text := strings.NewReplacer("username: copier", "username: 'hunter2:'", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n    hunter2", "chroot: /prod", "chroot: prod").Replace(goodNodes)
	for _, text := range []string{text, strings.Replace(text, "chroot: prod", "chroot: /prod", 1)} {
		if _, err := Load([]string{Stdin}, WithStdin([]byte(text))); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("want an error without a secret, got %v", err)
		}
	}
}
