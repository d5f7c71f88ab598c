package ensemble

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// ErrLost: the connection was lost before the answer came; nobody knows whether
// the request was done.
var ErrLost = errors.New("the connection was lost before the answer")

// What a visitor of a walk may say of a node, to have it refused with all that is
// below it.
var (
	// ErrTooLarge: it has more data than can be copied.
	ErrTooLarge = errors.New("the node is too large")
	// ErrHiddenACL: see Client.ACL.
	ErrHiddenACL = errors.New("the node's access control list is shown without passwords to this user: copyACL needs the permission ADMIN (or the superuser)")
)

// Error is what a server said about a request.
type Error struct {
	Verb, Path string
	Err        error
}

func (e *Error) Error() string {
	return strings.TrimSpace(e.Verb+" "+e.Path) + ": " + Explain(e.Err)
}

// Unwrap returns the cause: one of the library's errors.
func (e *Error) Unwrap() error { return e.Err }

// Explain says what an error of the library means.
func Explain(err error) string {
	switch {
	case errors.Is(err, zk.ErrNoAuth):
		return "not permitted: the node's access control list does not allow it to this user"
	case errors.Is(err, zk.ErrAuthFailed):
		return "authentication failed"
	case errors.Is(err, zk.ErrInvalidACL):
		return "the access control list is not valid here: this ensemble lacks an authentication scheme that it names, or nobody is signed in"
	case errors.Is(err, zk.ErrNoNode):
		return "the node does not exist"
	case errors.Is(err, zk.ErrNodeExists):
		return "the node exists already"
	case errors.Is(err, zk.ErrNotEmpty):
		return "the node has children"
	case errors.Is(err, zk.ErrBadVersion):
		return "the node was changed by somebody else meanwhile"
	case errors.Is(err, zk.ErrNoChildrenForEphemerals):
		return "the parent is ephemeral and can have no children"
	}
	return strings.ReplaceAll(err.Error(), "\n", ": ")
}

// UnreachableError: no server answered for so long.
type UnreachableError struct {
	Servers []string
	For     time.Duration
	Problem string
	Err     error
}

func (e *UnreachableError) Error() string {
	text := fmt.Sprintf("no server of the ensemble %s answered for %v", strings.Join(e.Servers, ","), e.For)
	if e.Problem != "" {
		text += ": " + e.Problem
	}
	return text
}

// Unwrap returns what the last request met.
func (e *UnreachableError) Unwrap() error { return e.Err }
