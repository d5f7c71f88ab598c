package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// silentWriter has a destination that takes connections and says nothing, so that
// transactions stay in flight.
func silentWriter(t *testing.T) *writer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	client, err := ensemble.Connect(t.Context(), ensemble.Options{Servers: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c := New(t.Context(), Options{Destination: client, Rules: topology.NodeRules{Root: "/"}})
	c.tree = &tree{nodes: map[string]*node{}}
	return c.writer
}

// A node whose parent is in the transaction that is sent to make room for it waits for
// that one, as for any other; and so does a parent's end for its children's.
func TestDependsOnWhatWasJustSent(t *testing.T) {
	for kind, paths := range map[topology.Op]func(i int) string{
		topology.Create: func(i int) string { // the last but one is the parent of the last
			if i == mostOps {
				return fmt.Sprintf("/n%d/below", mostOps-1)
			}
			return fmt.Sprintf("/n%d", i)
		},
		topology.Delete: func(i int) string {
			if i < mostOps {
				return fmt.Sprintf("/parent/n%d", i)
			}
			return "/parent"
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := silentWriter(t)
			add := func(i int) error {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				return w.add(ctx, &op{Op: ensemble.Op{Kind: kind, Path: paths(i)}})
			}
			for i := range mostOps {
				if err := add(i); err != nil {
					t.Fatalf("%s: %v", paths(i), err)
				}
			}
			if err := add(mostOps); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s does not wait for what it depends on: %v", paths(mostOps), err)
			}
		})
	}
}
