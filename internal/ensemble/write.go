package ensemble

import (
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/topology"
)

// Writes are made once: when the connection is lost before the answer, the error
// is ErrLost, and whoever asked looks what became of it.

// Open is the access control list of a node that anybody may do anything with.
func Open() []topology.NodeACL {
	return []topology.NodeACL{{Permissions: zk.PermAll, Scheme: "world", ID: "anyone"}}
}

// Creator is the access control list of a node that is its creator's alone; it
// needs one who is signed in.
func Creator() []topology.NodeACL {
	return []topology.NodeACL{{Permissions: zk.PermAll, Scheme: "auth", ID: ""}}
}

func list(acl []topology.NodeACL) []zk.ACL {
	out := make([]zk.ACL, len(acl))
	for i, a := range acl {
		out[i] = zk.ACL{Perms: a.Permissions, Scheme: a.Scheme, ID: a.ID}
	}
	return out
}

// Create makes a persistent node.
func (c *Client) Create(path string, data []byte, acl []topology.NodeACL) error {
	return c.once("create", path, func() error {
		_, err := c.conn.Create(c.path(path), data, 0, list(acl))
		return err
	})
}

// Set replaces a node's data if it still has that version.
func (c *Client) Set(path string, data []byte, version int32) (stat *Stat, err error) {
	err = c.once("set", path, func() (err error) {
		stat, err = c.conn.Set(c.path(path), data, version)
		return err
	})
	return stat, err
}

// Delete removes a node if it still has that version and no children.
func (c *Client) Delete(path string, version int32) error {
	return c.once("delete", path, func() error { return c.conn.Delete(c.path(path), version) })
}

// SetACL replaces a node's access control list, whatever version it has.
func (c *Client) SetACL(path string, acl []topology.NodeACL) error {
	return c.once("set the access control list of", path, func() error {
		_, err := c.conn.SetACL(c.path(path), list(acl), -1)
		return err
	})
}

// Op is one of the requests of a Multi.
type Op struct {
	// Kind is create, update or delete.
	Kind    topology.Op
	Path    string
	Data    []byte
	Version int32              // of update and delete
	ACL     []topology.NodeACL // of create
}

// Multi does all of them, in order, or none. Where one is refused, failed is its
// index and err why.
func (c *Client) Multi(ops []Op) (failed int, err error) {
	requests := make([]any, len(ops))
	for i := range ops {
		switch o := &ops[i]; o.Kind {
		case topology.Create:
			requests[i] = &zk.CreateRequest{Path: c.path(o.Path), Data: o.Data, Acl: list(o.ACL)}
		case topology.Update:
			requests[i] = &zk.SetDataRequest{Path: c.path(o.Path), Data: o.Data, Version: o.Version}
		case topology.Delete:
			requests[i] = &zk.DeleteRequest{Path: c.path(o.Path), Version: o.Version}
		default:
			return -1, fmt.Errorf("multi: operation %q", o.Kind)
		}
	}
	failed = -1
	err = c.once("multi", "", func() error {
		answers, err := c.conn.Multi(requests...)
		for i, a := range answers {
			if a.Error != nil {
				failed = i
				return a.Error
			}
		}
		return err
	})
	if failed >= 0 {
		err = &Error{Verb: string(ops[failed].Kind), Path: ops[failed].Path, Err: err.(*Error).Err} //nolint:errorlint,forcetypeassert // once made it
	}
	return failed, err
}
