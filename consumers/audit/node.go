package audit

import (
	"cmp"
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/afterimage-dr/afterimage/topology"
)

// nodeStates are two states of a znode, as documents for people; one may be nil.
// What is secret is hidden in both alike, so that hiding it is no difference.
func nodeStates(old, now *topology.Record) (before, after any) {
	hidden := !everybodyReads(old) || !everybodyReads(now)
	return nodeState(old, hidden), nodeState(now, hidden)
}

func nodeState(r *topology.Record, hidden bool) any {
	if r == nil || r.Body == nil {
		return nil
	}
	doc := map[string]any{}
	if m := r.Node; m != nil {
		doc["mode"] = cmp.Or(string(m.Mode), "persistent")
		if m.ACL != nil {
			doc["acl"] = aclState(m.ACL)
		}
	}
	switch data := r.NodeData(); {
	case data == nil:
		doc["data"] = nil
	case hidden:
		doc["data"] = hashed(data)
	case utf8.Valid(data) && !strings.ContainsRune(string(data), 0):
		doc["data"], doc["bytes"] = string(data), len(data)
	default:
		doc["dataBase64"], doc["bytes"] = base64.StdEncoding.EncodeToString(data), len(data)
	}
	return doc
}

// everybodyReads tells whether a node's access control list lets everybody read its
// data; so it is taken where no list was read, since then its copy is open too.
func everybodyReads(r *topology.Record) bool {
	if r == nil || r.Node == nil || r.Node.ACL == nil {
		return true
	}
	for _, a := range r.Node.ACL {
		if a.Scheme == "world" && a.Permissions&readPermission != 0 {
			return true
		}
	}
	return false
}

// permissions by their letters, in the order of ZooKeeper's own shell.
var permissions = [...]struct {
	bit    int32
	letter byte
}{{4, 'c'}, {8, 'd'}, {readPermission, 'r'}, {2, 'w'}, {16, 'a'}}

const readPermission = 1

// aclState is, by scheme and id, what is allowed.
func aclState(acl []topology.NodeACL) map[string]any {
	bits := map[string]int32{}
	for _, a := range acl {
		bits[a.Scheme+":"+aclID(a)] |= a.Permissions // entries add up
	}
	out := make(map[string]any, len(bits))
	for who, granted := range bits {
		letters := ""
		for _, p := range permissions {
			if granted&p.bit != 0 {
				letters += string(p.letter)
			}
		}
		out[who] = letters
	}
	return out
}

// aclID hides what of an id could be turned into a password: of digest the hash of
// it, and all that is not known to be harmless.
func aclID(a topology.NodeACL) string {
	switch a.Scheme {
	case "world", "ip", "sasl", "x509":
		return a.ID
	case "digest":
		if user, secret, ok := strings.Cut(a.ID, ":"); ok {
			return user + ":" + hashed([]byte(secret))
		}
	}
	return hashed([]byte(a.ID))
}

// nodeChangedAt is when a node's data was set, if the change is one of that: setting
// an access control list leaves no time.
func nodeChangedAt(c *Change, r *topology.Record) *time.Time {
	set := r.Op == topology.Create
	for _, f := range c.Fields {
		set = set || !strings.HasPrefix(f.Path, "/acl")
	}
	if !set || r.Op == topology.Delete {
		return nil
	}
	_, at := who(nil, r) // the producer keeps the time where others keep their managers
	return at
}
