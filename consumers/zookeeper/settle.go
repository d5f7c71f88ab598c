package zookeeper

import (
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/failpoint"
	"github.com/afterimage-dr/afterimage/topology"
)

// succeeded takes in a request that was done as it was asked for.
func (c *Consumer) succeeded(o *op) {
	switch o.Kind {
	case topology.Create:
		c.done(o, Created, 0)
	case topology.Update:
		c.done(o, Updated, o.Version+1)
	default:
		c.done(o, Deleted, 0)
	}
}

// conclude does one request to its end. The error ends everything; a refusal is
// counted. sure: what is known of the node is true, so that it need not be read first.
func (c *Consumer) conclude(o *op, sure bool) error {
	res, version, f, err := c.settle(o, sure)
	switch {
	case err != nil:
		return err
	case f != nil:
		c.failed(o, f.Reason, f.Message)
	case res == Skipped:
		c.report.skip(o.Path)
	default:
		c.done(o, res, version)
	}
	return nil
}

const (
	// turns is how often a node is read and written again when somebody else writes it
	// meanwhile.
	turns = 8
	// losses is how often a node may cost the connection before its size is taken for
	// the cause, if it may be; mostLosses of any end the run.
	losses     = 4
	mostLosses = 30
)

// settle reads a node, does what is missing, and looks again when the answer says that
// it was not as it was read, or never came.
func (c *Consumer) settle(o *op, sure bool) (res Result, version int32, f *Failure, err error) {
	var last error
	lost := 0
	for turn := 0; turn < turns && lost < mostLosses; turn++ {
		if !sure {
			done, version, f, err := c.look(o)
			if err != nil || f != nil {
				return "", 0, f, err
			}
			if done && !o.lost {
				return Unchanged, version, nil, nil // somebody else did it
			}
			if done {
				return o.result(), version, nil, nil
			}
		}
		sure = false
		if last = c.request(o); last == nil {
			if o.Kind == topology.Update {
				version = o.Version + 1
			}
			return o.result(), version, nil, nil
		}
		switch {
		case errors.Is(last, ensemble.ErrLost):
			if err := c.Destination.Await(last); err != nil {
				return "", 0, nil, err
			}
			o.lost = true
			if lost++; lost >= losses && c.writer.suspects(o) {
				return "", 0, c.tooLarge(o), nil
			}
			turn--
		case errors.Is(last, zk.ErrInvalidACL) && o.Kind == topology.Create && c.Rules.CopyACL && c.postponeACL(o):
			// it is set, and refused, when everything below is there
		case errors.Is(last, zk.ErrShortBuffer):
			return "", 0, c.tooLarge(o), nil
		case errors.Is(last, zk.ErrNoNode) && o.Kind == topology.Create:
			return "", 0, &Failure{o.Path, ReasonParentMissing, "its parent is not at the destination, or was deleted there meanwhile"}, nil
		case errors.Is(last, zk.ErrNodeExists), errors.Is(last, zk.ErrBadVersion), errors.Is(last, zk.ErrNoNode):
			// not as it was read: look again
		case errors.Is(last, zk.ErrNotEmpty):
			kept, f, err := c.clear(o.Path)
			if err != nil || f != nil {
				return "", 0, f, err
			}
			if kept {
				return Skipped, 0, nil, nil
			}
		default:
			if f, err := c.refused(o, last); f != nil || err != nil {
				return "", 0, f, err
			}
		}
	}
	if errors.Is(last, ensemble.ErrLost) {
		return "", 0, nil, last
	}
	return "", 0, &Failure{o.Path, ReasonConflict, "it changes faster than it can be written: somebody else writes at the destination (" + last.Error() + ")"}, nil
}

// refused is what a server will say again however often it is asked.
func (c *Consumer) refused(o *op, err error) (*Failure, error) {
	var said *ensemble.Error
	if !errors.As(err, &said) {
		return nil, err // the context's end, or no server
	}
	reason := ReasonRefused
	message := said.Error()
	switch {
	case errors.Is(err, zk.ErrNoAuth):
		reason = ReasonDenied
		if o.Kind != topology.Update {
			message = string(o.Kind) + " " + o.Path + ": not permitted: the access control list of its parent " + topology.NodeParent(o.Path) + " does not allow it to this user"
		}
	case errors.Is(err, zk.ErrInvalidACL):
		reason = ReasonACL
	}
	return &Failure{o.Path, reason, message}, nil
}

func (c *Consumer) tooLarge(o *op) *Failure {
	return &Failure{o.Path, ReasonTooLarge, fmt.Sprintf("its %d bytes are more than the destination takes in one packet (jute.maxbuffer, 1 MiB where it is not set)", len(o.Data))}
}

// result of the request when it is done.
func (o *op) result() Result {
	switch {
	case o.Kind == topology.Delete:
		return Deleted
	case o.created && (o.Kind == topology.Create || o.lost):
		return Created
	}
	return Updated
}

func (c *Consumer) request(o *op) (err error) {
	failpoint.Hit("zookeeper/before-write")
	switch o.Kind {
	case topology.Create:
		err = c.Destination.Create(o.Path, o.Data, o.ACL)
	case topology.Update:
		_, err = c.Destination.Set(o.Path, o.Data, o.Version)
	default:
		err = c.Destination.Delete(o.Path, o.Version)
	}
	if err == nil {
		failpoint.Hit("zookeeper/after-write")
	}
	return err
}

// look reads a node and makes the request what it takes now; done says that it takes
// nothing.
func (c *Consumer) look(o *op) (done bool, version int32, f *Failure, err error) {
	n, found, err := c.Destination.Node(o.Path, c.Rules.CopyACL, false)
	if errors.Is(err, zk.ErrNoAuth) {
		if o.Kind == topology.Delete {
			return false, 0, nil, c.blind(o)
		}
		return false, 0, &Failure{o.Path, ReasonDestinationRead, err.Error()}, nil
	}
	if err != nil {
		return false, 0, nil, err
	}
	switch {
	case o.Kind == topology.Delete:
		if found {
			o.Version = n.Stat.Version
		}
		return !found, 0, nil, nil
	case !found:
		o.Kind = topology.Create
		c.firstACL(o)
		return false, 0, nil, nil
	case n.Meta.Mode == topology.NodeEphemeral:
		return false, 0, &Failure{o.Path, ReasonMode, "it is an ephemeral node of a session at the destination; ignoreEphemeral leaves such nodes alone, and without it one is replaced by the next run after its session has ended"}, nil
	}
	o.ACL = n.Meta.ACL
	c.laterACL(o, &node{acl: o.ACL})
	if topology.NodeHash(n.Data) == o.hash {
		return true, n.Stat.Version, nil, nil
	}
	o.Kind, o.Version = topology.Update, n.Stat.Version
	return false, 0, nil, nil
}

// blind takes the version of a node that may not be read: its stat may, on servers
// before 3.9.
func (c *Consumer) blind(o *op) error {
	stat, found, err := c.Destination.Exists(o.Path)
	switch {
	case err != nil || !found:
	case stat == nil:
		o.Version = -1
	default:
		o.Version = stat.Version
	}
	return err
}

// clear removes what is below a node that must go and that the log does not want.
// kept: something there is none of ours, so the node stays too.
func (c *Consumer) clear(path string) (kept bool, f *Failure, err error) {
	names, _, err := c.Destination.Children(path)
	if err != nil {
		if errors.Is(err, zk.ErrNoAuth) {
			return false, &Failure{path, ReasonNotEmpty, "it has children that may not be listed"}, nil
		}
		return false, nil, err
	}
	for _, name := range names {
		child := path + "/" + name
		if path == "/" {
			child = "/" + name
		}
		if c.Rules.Skips(child) || c.known != nil && !c.known(child) {
			return true, nil, nil
		}
		n, known := c.tree.get(child)
		if known && c.Rules.IgnoreEphemeral && n.mode == topology.NodeEphemeral {
			return true, nil, nil
		}
		if known && n.wanted {
			return false, &Failure{path, ReasonNotEmpty, "it is gone in the source, and " + child + " below it is not"}, nil
		}
		o := &op{Op: ensemble.Op{Kind: topology.Delete, Path: child}}
		res, _, f, err := c.settle(o, false)
		switch {
		case err != nil || f != nil:
			return false, f, err
		case res == Skipped:
			return true, nil, nil
		}
		c.done(o, res, 0)
	}
	return false, nil, nil
}

// reached tells, after a lost connection, whether a request had been done.
func (c *Consumer) reached(o *op, cause error) (bool, error) {
	if err := c.Destination.Await(cause); err != nil {
		return false, err
	}
	if err := c.Destination.Sync(o.Path); err != nil {
		return false, err
	}
	n, found, err := c.Destination.Node(o.Path, false, false)
	if err != nil {
		if errors.Is(err, zk.ErrNoAuth) {
			return true, nil // whatever it is, it is looked at by itself
		}
		return false, err
	}
	if o.Kind == topology.Delete {
		return !found, nil
	}
	return found && topology.NodeHash(n.Data) == o.hash && (o.Kind == topology.Create || n.Stat.Version != o.Version), nil
}
