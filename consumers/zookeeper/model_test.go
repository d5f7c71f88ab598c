package zookeeper

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/topology"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const modelRoot = "/test"

// modelPaths are all there can be: three names, three deep. Parents stand before
// their children.
var modelPaths = func() []string {
	paths := []string{modelRoot}
	for at := 0; at < len(paths); at++ {
		if strings.Count(paths[at], "/") <= 3 {
			for _, name := range []string{"a", "b", "x"} {
				paths = append(paths, paths[at]+"/"+name)
			}
		}
	}
	return paths
}()

// modelTree draws nodes, with their data, each of which has a parent.
func modelTree(t *rapid.T, label string) map[string]string {
	data := rapid.SampledFrom([]string{"", "1", "2", "null"})
	tree := map[string]string{modelRoot: data.Draw(t, label)}
	for _, p := range modelPaths[1:] {
		if _, ok := tree[topology.NodeParent(p)]; ok && rapid.Bool().Draw(t, label) {
			tree[p] = data.Draw(t, label)
		}
	}
	return tree
}

func modelData(s string) []byte {
	if s == "null" {
		return nil
	}
	return []byte(s)
}

func modelRecord(path, data string, mode topology.NodeMode) *topology.Record {
	body := modelData(data)
	r := &topology.Record{
		Key: topology.NodeKey(path).String(), Kind: topology.Object, Op: topology.Update,
		Hash: topology.NodeHash(body), Node: &topology.NodeMeta{Mode: mode}, Body: body,
	}
	if body == nil {
		r.Body = []byte{}
	}
	return r
}

func modelTombstone(path string) *topology.Record {
	return &topology.Record{Key: topology.NodeKey(path).String(), Kind: topology.Object, Op: topology.Delete}
}

// modelled is what a consumer must make of a destination, and what it must count.
type modelled struct {
	tree                                 map[string]string
	created, updated, deleted, unchanged int64
}

// model computes it: what the source has and the rules want, else what was there if it
// is excluded or has something excluded below it.
func model(rules *topology.NodeRules, source, before map[string]string, ephemeral map[string]bool) modelled {
	m := modelled{tree: map[string]string{}}
	for _, p := range modelPaths {
		was, existed := before[p]
		want, wanted := source[p]
		wanted = wanted && rules.Covers(p) && !(rules.IgnoreEphemeral && ephemeral[p])
		switch {
		case wanted && !existed:
			m.created++
		case wanted && was == want:
			m.unchanged++
		case wanted:
			m.updated++
		}
		if wanted {
			m.tree[p] = want
			continue
		}
		stays := existed && !rules.Covers(p)
		for below := range before {
			stays = stays || existed && topology.NodeWithin(below, p) && !rules.Covers(below)
		}
		switch {
		case stays:
			m.tree[p] = was
		case existed:
			m.deleted++
		}
	}
	return m
}

// modelLog draws records that end in what the source has: the last of each node in any
// order, as compaction leaves them, older ones of some before these, and tombstones of
// some that are not there.
func modelLog(t *rapid.T, source map[string]string) (records []*topology.Record, ephemeral map[string]bool) {
	ephemeral = map[string]bool{}
	parents := map[string]bool{}
	for p := range source {
		parents[topology.NodeParent(p)] = true
	}
	var older, last []*topology.Record
	for _, p := range modelPaths {
		data, ok := source[p]
		ends := ok || rapid.Bool().Draw(t, "tombstone")
		if ends && rapid.IntRange(0, 2).Draw(t, "older") == 0 {
			older = append(older, modelRecord(p, rapid.SampledFrom([]string{"old", "1", "null"}).Draw(t, "data"), topology.NodePersistent), modelTombstone(p))
		}
		switch {
		case !ends:
		case !ok:
			last = append(last, modelTombstone(p))
		case !parents[p] && p != modelRoot && rapid.IntRange(0, 3).Draw(t, "ephemeral") == 0:
			ephemeral[p] = true
			last = append(last, modelRecord(p, data, topology.NodeEphemeral))
		default:
			last = append(last, modelRecord(p, data, topology.NodePersistent))
		}
	}
	return slices.Concat(rapid.Permutation(older).Draw(t, "order of older"), rapid.Permutation(last).Draw(t, "order")), ephemeral
}

// Whatever the log holds, in whatever order compaction left it, and whatever the
// destination held: in the end it holds what the model says, and the counts are right.
func TestModel(t *testing.T) {
	server, base := testenv.ZooKeeper(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, _, err := zk.Connect([]string{server.Addr()}, 10*time.Second, zk.WithLogInfo(false))
	must(err)
	defer conn.Close()
	create := func(path string, data []byte) error {
		_, err := conn.Create(path, data, 0, zk.WorldACL(zk.PermAll))
		return err
	}
	must(create(base, nil))
	broker, err := stream.StartEmbedded(filepath.Join(t.TempDir(), "log"))
	must(err)
	defer func() { must(broker.Close()) }()
	log, err := stream.NewClient(broker.Dial(), "model")
	must(err)
	defer log.Close()
	writer, err := log.Writer()
	must(err)
	defer writer.Close()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		runs++
		chroot := fmt.Sprintf("%s/%d", base, runs)
		must(create(chroot, nil))
		rules := topology.NodeRules{Root: modelRoot, Chrooted: true, IgnoreEphemeral: rapid.Bool().Draw(t, "ignoreEphemeral")}
		if rapid.Bool().Draw(t, "excludes") {
			rules.Exclude = regexp.MustCompile("x$")
		}
		source, before := modelTree(t, "source"), map[string]string{}
		if rapid.IntRange(0, 4).Draw(t, "empty") > 0 {
			before = modelTree(t, "destination")
		}
		for _, p := range modelPaths { // parents first
			if data, ok := before[p]; ok {
				must(create(chroot+p, modelData(data)))
			}
		}
		records, ephemeral := modelLog(t, source)
		topics := topology.NodeTopics("model", fmt.Sprint(runs), "", modelRoot)
		for _, topic := range []string{topics.Changes, topics.Outcomes} {
			_, err := log.Ensure(t.Context(), topic, stream.TopicSettings{Partitions: 1, Replication: -1})
			must(err)
		}
		for _, r := range records {
			must(writer.AppendSync(t.Context(), r.Encode(topics.Changes, 0)))
		}
		destination, err := ensemble.Connect(t.Context(), ensemble.Options{Servers: []string{server.Addr()}, Chroot: chroot})
		must(err)
		defer destination.Close()
		want := model(&rules, source, before, ephemeral)
		for pass, m := range []modelled{want, model(&rules, source, want.tree, ephemeral)} {
			c := New(t.Context(), Options{
				Destination: destination, Log: log, Writer: writer, Topics: topics, Rules: rules, CreateRoot: true,
				Breaker: breaker.Limit{Few: 1 << 40, Whole: 1 << 40}, InFlight: rapid.IntRange(1, 8).Draw(t, "in flight"),
			})
			b, err := log.Bounds(t.Context(), topics.Changes, 0)
			must(err)
			must(c.Load(t.Context()))
			must(c.Replay(t.Context(), b.End))
			must(c.Prune(t.Context(), nil))
			must(c.Finish(t.Context()))
			got := map[string]string{}
			for _, p := range modelPaths {
				data, _, err := conn.Get(chroot + p)
				switch {
				case errors.Is(err, zk.ErrNoNode):
				case data == nil:
					must(err)
					got[p] = "null"
				default:
					got[p] = string(data)
				}
			}
			if d := cmp.Diff(m.tree, got); d != "" {
				t.Fatalf("pass %d: (-want +got)\n%s", pass, d)
			}
			r := c.Report()
			counts := []int64{r.Created, r.Updated, r.Deleted, r.Unchanged, r.Failed}
			if d := cmp.Diff([]int64{m.created, m.updated, m.deleted, m.unchanged, 0}, counts); d != "" {
				t.Fatalf("pass %d: created, updated, deleted, unchanged, failed: (-want +got)\n%s%+v", pass, d, r)
			}
		}
	})
}
