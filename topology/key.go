package topology

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Key names one object in every topic of a LiveSynchronization. Its text form,
// <group>/<version>/<resource>/<namespace>/<name>, is the Kafka record key: the
// core group is written "core" and a cluster-scoped object has an empty
// namespace. No part can hold a slash, so the form is injective. A znode's path is
// the name, its first slash the one before it (see [NodeKey]).
type Key struct {
	Group, Version, Resource, Namespace, Name string
}

// coreGroup is how the empty (core) group is written in a key.
const coreGroup = "core"

// String returns the record key.
func (k Key) String() string {
	g := k.Group
	if g == "" {
		g = coreGroup
	}
	return g + "/" + k.Version + "/" + k.Resource + "/" + k.Namespace + "/" + k.Name
}

// GVR returns the group, version and resource of the object.
func (k Key) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}
}

// ResourcePrefix is what the keys of all objects of one resource begin with,
// and no key of another resource.
func ResourcePrefix(gvr schema.GroupVersionResource) string {
	return Key{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource}.resourcePrefix()
}

func (k Key) resourcePrefix() string {
	g := k.Group
	if g == "" {
		g = coreGroup
	}
	return g + "/" + k.Version + "/" + k.Resource + "/"
}

// ParseKey is the inverse of [Key.String]. It refuses everything String cannot
// have produced, so that a stray record never names an object.
func ParseKey(s string) (Key, error) {
	if path, ok := strings.CutPrefix(s, nodePrefix); ok {
		if err := ValidNodePath(path); err != nil {
			return Key{}, fmt.Errorf("key %q: %w", s, err)
		}
		return NodeKey(path), nil
	}
	parts := strings.Split(s, "/")
	if len(parts) != 5 {
		return Key{}, fmt.Errorf("key %q: want <group>/<version>/<resource>/<namespace>/<name>, got %d parts", s, len(parts))
	}
	for i, name := range [...]string{"group", "version", "resource", "", "name"} {
		if name != "" && parts[i] == "" {
			return Key{}, fmt.Errorf("key %q: empty %s", s, name)
		}
	}
	if IsControl(s) {
		return Key{}, fmt.Errorf("key %q is that of a control record", s)
	}
	if parts[0] == coreGroup {
		parts[0] = ""
	}
	return Key{Group: parts[0], Version: parts[1], Resource: parts[2], Namespace: parts[3], Name: parts[4]}, nil
}

// controlPrefix begins the key of every record that is about a partition and
// not about an object. No API group begins with it.
const controlPrefix = "!"

// IsControl tells whether a record key belongs to a control record (see [Kind]).
func IsControl(key string) bool { return strings.HasPrefix(key, controlPrefix) }

// ControlKey returns the key of the control record of a kind in a partition.
// The subject tells control records of one kind apart (the resource a "listed"
// marker speaks of); it may be empty.
func ControlKey(kind Kind, subject string) string {
	if subject == "" {
		return controlPrefix + string(kind)
	}
	return controlPrefix + string(kind) + "/" + subject
}
