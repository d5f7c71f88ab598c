package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// treeRoot is the rootPath of the document's samples.
const treeRoot = "/test"

// locks is the subtree that the LiveSynchronization leaves out.
const locks = treeRoot + "/locks"

// clock is the node whose changes are timed.
const clock = treeRoot + "/clock"

// Of the source's tree.
const (
	settings   = 1600
	blobs      = 250
	depth      = 40
	ephemerals = 40
	lockNodes  = 40
)

// znodes fills and edits a source.
type znodes struct {
	*ensemble
	random *rand.Rand

	created, updated, deleted, recreated int
}

// setting is the path of one of the nodes that are edited.
func setting(i int) string {
	return fmt.Sprintf("%s/config/app-%02d/setting-%02d", treeRoot, i/40, i%40)
}

func newZnodes(e *ensemble) *znodes {
	return &znodes{ensemble: e, random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // no secret
}

func (z *znodes) blob() []byte {
	data := make([]byte, z.random.IntN(4<<10))
	for i := range data {
		data[i] = byte(z.random.Uint32())
	}
	return data
}

// fill makes the tree: text, binary, data that is empty and data that is null, names
// that are no ASCII, a chain, ephemeral nodes, a container and a TTL node.
func (z *znodes) fill() error {
	type node struct {
		path string
		data []byte
	}
	nodes := []node{
		{treeRoot, []byte("the root")}, {clock, []byte("0")}, {treeRoot + "/empty", []byte{}}, {treeRoot + "/null", nil},
		{treeRoot + "/設定/データベース", []byte("ユニコード")}, {treeRoot + "/ünïcode/straße/☕ and spaces", []byte("näme")},
		{treeRoot + "/deep" + strings.Repeat("/down", depth), []byte("the bottom")},
	}
	for i := range settings {
		nodes = append(nodes, node{setting(i), fmt.Appendf(nil, "value %d of a setting", i)})
	}
	for i := range blobs {
		nodes = append(nodes, node{fmt.Sprintf("%s/binary/blob-%03d", treeRoot, i), z.blob()})
	}
	for i := range lockNodes {
		nodes = append(nodes, node{fmt.Sprintf("%s/lock-%02d", locks, i), []byte("free")})
	}
	for _, n := range nodes {
		if err := z.put(n.path, n.data); err != nil {
			return err
		}
	}
	return z.fillWithOthers()
}

// fillWithOthers makes the nodes that are not persistent.
func (z *znodes) fillWithOthers() error {
	open := zk.WorldACL(zk.PermAll)
	var errs []error
	note := func(_ string, err error) { errs = append(errs, err) }
	errs = append(errs, z.put(treeRoot+"/sessions", []byte{}))
	for i := range ephemerals {
		note(z.Create(fmt.Sprintf("%s/sessions/session-%02d", treeRoot, i), []byte("alive"), zk.FlagEphemeral, open))
	}
	note(z.CreateContainer(treeRoot+"/queue", []byte("work"), zk.FlagContainer, open))
	errs = append(errs, z.put(treeRoot+"/queue/item-1", []byte("one")), z.put(treeRoot+"/queue/item-2", []byte("two")))
	note(z.CreateTTL(treeRoot+"/lease", []byte("an hour"), zk.FlagTTL, open, time.Hour))
	return errors.Join(errs...)
}

// edit does one thing to a node: where there is one it is updated, deleted or
// recreated, else it is created.
func (z *znodes) edit() error {
	// Some are created in the course of time.
	path := setting(z.random.IntN(settings * 5 / 4))
	data := fmt.Appendf(nil, "edited to %d", z.random.Uint64())
	exists, _, err := z.Exists(path)
	if err != nil {
		return err
	}
	dice := z.random.IntN(10)
	switch {
	case !exists:
		z.created++
		return z.put(path, data)
	case dice < 7:
		z.updated++
		_, err = z.Set(path, data, -1)
	case dice < 9:
		z.deleted++
		err = z.Delete(path, -1)
	default:
		z.recreated++
		if err = z.Delete(path, -1); err == nil {
			err = z.put(path, data)
		}
	}
	return err
}

// churn edits for a while.
func (z *znodes) churn(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 3*time.Millisecond) {
		if err := z.edit(); err != nil {
			return fmt.Errorf("editing the source: %w", err)
		}
	}
	return ctx.Err()
}

// lock changes what is under locks.
func (z *znodes) lock() error {
	_, err := z.Set(locks+"/lock-00", []byte("taken"), -1)
	return errors.Join(err, z.Delete(locks+"/lock-01", -1), z.put(locks+"/lock-99", []byte("free")))
}

func (z *znodes) edits() string {
	return fmt.Sprintf("%d created, %d updated, %d deleted, %d deleted and recreated", z.created, z.updated, z.deleted, z.recreated)
}

// latency changes a node of the source and tells after how long the destination has
// told somebody who watches it there.
func (z *znodes) latency(ctx context.Context, destination *ensemble, n int) (time.Duration, error) {
	want := fmt.Sprint(n)
	began := time.Now()
	if _, err := z.Set(clock, []byte(want), -1); err != nil {
		return 0, fmt.Errorf("changing %s: %w", clock, err)
	}
	for {
		data, _, changed, err := destination.GetW(clock)
		if err != nil {
			return 0, fmt.Errorf("watching %s at the destination: %w", clock, err)
		}
		if string(data) == want {
			return time.Since(began), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(patience):
			return 0, fmt.Errorf("a change of %s did not arrive within %s", clock, patience)
		}
	}
}
