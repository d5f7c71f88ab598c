package ensemble

import (
	"errors"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/topology"
)

// Stat is what the servers tell of a node besides its data.
type Stat = zk.Stat

// Get returns a node's data; found is false where it does not exist.
func (c *Client) Get(path string) (data []byte, stat *Stat, found bool, err error) {
	err = c.read("get", path, func() (err error) {
		data, stat, err = c.conn.Get(c.path(path))
		return err
	})
	return data, stat, err == nil, absent(err)
}

// GetWatched is Get with a watch on the node's data and its end.
func (c *Client) GetWatched(path string) (data []byte, stat *Stat, found bool, err error) {
	err = c.read("get", path, func() (err error) {
		data, stat, _, err = c.conn.GetW(c.path(path))
		return err
	})
	return data, stat, err == nil, absent(err)
}

// Children returns the names of a node's children; found is false where the node
// does not exist.
func (c *Client) Children(path string) (names []string, found bool, err error) {
	err = c.read("get children of", path, func() (err error) {
		names, _, err = c.conn.Children(c.path(path))
		return err
	})
	return names, err == nil, absent(err)
}

// ChildrenWatched is Children with a watch on the list.
func (c *Client) ChildrenWatched(path string) (names []string, found bool, err error) {
	err = c.read("get children of", path, func() (err error) {
		names, _, _, err = c.conn.ChildrenW(c.path(path))
		return err
	})
	return names, err == nil, absent(err)
}

// Exists tells whether a node does. Its stat is nil where it may not be read.
func (c *Client) Exists(path string) (stat *Stat, found bool, err error) {
	err = c.read("look for", path, func() (err error) {
		found, stat, err = c.conn.Exists(c.path(path))
		return err
	})
	if errors.Is(err, zk.ErrNoAuth) {
		return nil, true, nil // of what is not there servers say just that
	}
	return stat, found, err
}

// hiddenDigest is what servers show instead of the password of a digest user to one
// without the permission ADMIN. No digest looks like that.
const hiddenDigest = ":x"

// ACL returns a node's access control list in canonical order; nil where the servers
// show it without its passwords.
func (c *Client) ACL(path string) (acl []topology.NodeACL, found bool, err error) {
	var list []zk.ACL
	err = c.read("get the access control list of", path, func() (err error) {
		list, _, err = c.conn.GetACL(c.path(path))
		return err
	})
	for _, a := range list {
		if a.Scheme == "digest" && strings.HasSuffix(a.ID, hiddenDigest) {
			return nil, true, nil
		}
		acl = append(acl, topology.NodeACL{Permissions: a.Perms, Scheme: a.Scheme, ID: a.ID})
	}
	return topology.CanonicalACL(acl), err == nil, absent(err)
}

// Sync brings the server that is asked up to the leader: reads that follow see
// everything that had been written anywhere when it was called.
func (c *Client) Sync(path string) error {
	return c.do("sync", path, func() error {
		_, err := c.conn.Sync(c.path(path))
		return err
	})
}

func absent(err error) error {
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}

// How servers keep in a node's owner that it is none of a session: containers have the
// lowest number; TTL nodes 0xff in the highest byte, the number of the extended type in
// the next two (0: TTL), and milliseconds in the rest.
const (
	containerOwner = -1 << 63
	extendedMask   = 0xffffff << 40
	ttlOwner       = 0xff << 56
)

// ModeOf tells how long a node lives, from its stat. Servers do not let clients tell
// containers and TTL nodes from persistent ones: they show 0 as the owner of each
// (3.9.5, in DataNode.copyStat). But a member without extendedTypesEnabled knows no TTL
// nodes, and shows what is kept where others of its ensemble have some. These are
// persistent all the same, or a node would change with the member that is asked; and so
// is a container, should a version show it.
func ModeOf(s *Stat) topology.NodeMode {
	switch owner := s.EphemeralOwner; {
	case owner == 0, owner == containerOwner, uint64(owner)&extendedMask == ttlOwner: //nolint:gosec // bits
		return topology.NodePersistent
	}
	return topology.NodeEphemeral
}
