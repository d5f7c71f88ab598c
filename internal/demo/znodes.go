package demo

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// ensemble is a client of a server as anybody writes one: what is shown is found with
// it, and not with the code that is shown.
type ensemble struct {
	*zk.Conn
}

// demoSession is how long the source keeps ephemeral nodes of a client that is busy
// with something else.
const demoSession = 30 * time.Second

func connect(address string) (*ensemble, error) {
	c, events, err := zk.Connect([]string{address}, demoSession, zk.WithLogger(quiet{}), zk.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	late := time.After(demoSession)
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return &ensemble{c}, nil
			}
		case <-late:
			c.Close()
			return nil, fmt.Errorf("connecting to %s: no session within %s", address, demoSession)
		}
	}
}

// quiet has the client library say nothing: its connections to servers that were ended
// are part of the story.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// znode is all that a copy of a node must have in common with it.
type znode struct {
	data []byte
	// life is persistent, ephemeral, container or TTL.
	life string
}

// lifeOf a node by the owner in its stat, as ZooKeeper's EphemeralType has it.
func lifeOf(owner int64) string {
	switch {
	case owner == 0:
		return "persistent"
	case owner == -1<<63:
		return "container"
	case uint64(owner)>>56 == 0xff: //nolint:gosec // bits, not a number
		return "TTL"
	}
	return "ephemeral"
}

// read reads a tree without what is excluded.
func (e *ensemble) read(root string, excluded ...string) (map[string]znode, error) {
	out := map[string]znode{}
	var walk func(path string) error
	walk = func(path string) error {
		if slices.Contains(excluded, path) {
			return nil
		}
		data, stat, err := e.Get(path)
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		out[path] = znode{data, lifeOf(stat.EphemeralOwner)}
		if stat.NumChildren == 0 {
			return nil
		}
		names, _, err := e.Children(path)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		for _, n := range names {
			if err := walk(path + "/" + n); err != nil {
				return err
			}
		}
		return nil
	}
	return out, walk(root)
}

// differences between a source and its copy, sorted. A copy of an ephemeral node is
// persistent: whose session would it end with?
func differences(source, copied map[string]znode) []string {
	var out []string
	for path, want := range source {
		if want.life == "ephemeral" {
			want.life = "persistent"
		}
		switch is, ok := copied[path]; {
		case !ok:
			out = append(out, path+": missing at the destination")
		case (is.data == nil) != (want.data == nil) || !bytes.Equal(is.data, want.data):
			out = append(out, fmt.Sprintf("%s: other data, %d bytes where the source has %d", path, len(is.data), len(want.data)))
		case is.life != want.life:
			out = append(out, fmt.Sprintf("%s: %s, and not %s", path, is.life, want.life))
		}
	}
	for path := range copied {
		if _, ok := source[path]; !ok {
			out = append(out, path+": only at the destination")
		}
	}
	slices.Sort(out)
	return out
}

// put creates a node, and what is above it.
func (e *ensemble) put(path string, data []byte) error {
	_, err := e.Create(path, data, zk.FlagPersistent, zk.WorldACL(zk.PermAll))
	if i := strings.LastIndexByte(path, '/'); errors.Is(err, zk.ErrNoNode) && i > 0 {
		if err := e.put(path[:i], []byte{}); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
		_, err = e.Create(path, data, zk.FlagPersistent, zk.WorldACL(zk.PermAll))
	}
	if err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	return nil
}
