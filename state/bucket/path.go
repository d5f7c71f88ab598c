package bucket

import (
	"fmt"
	"strings"

	"github.com/afterimage-dr/afterimage/topology"
)

// coreGroup is how the empty (core) group is written in a path.
const coreGroup = "core"

// A hyphen separates group, version and resource, so one within a version or
// resource is written as a character that neither can have (both are DNS labels).
var (
	escapePart   = strings.NewReplacer("-", "~")
	unescapePart = strings.NewReplacer("~", "-")
)

// Path of an original: <namespace>/<name>/<group>-<version>-<resource>/<object
// namespace>.<object name>, the first two those of the LiveSynchronization; of a
// cluster-scoped object the last part is the name alone. No two keys of one
// cluster share a path.
func Path(namespace, name string, key topology.Key) string {
	return Folder(namespace, name) + resourceFolder(key) + "/" + objectName(key)
}

// Folder that holds all originals of a LiveSynchronization, for [Bucket.List].
func Folder(namespace, name string) string { return namespace + "/" + name + "/" }

func resourceFolder(key topology.Key) string {
	group := key.Group
	if group == "" {
		group = coreGroup
	}
	return group + "-" + escapePart.Replace(key.Version) + "-" + escapePart.Replace(key.Resource)
}

func objectName(key topology.Key) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.Namespace + "." + key.Name
}

// Location is what a path says. It does not say whether the object is in a
// namespace: that is a property of the resource.
type Location struct {
	// Namespace and Name of the LiveSynchronization (or, in the literal form, of
	// the Bucket).
	Namespace, Name string
	// Group, Version and Resource of the object; the core group is empty.
	Group, Version, Resource string
	// Object is <namespace>.<name>, or the name of a cluster-scoped object.
	Object string
}

// ParsePath is the inverse of [Path].
func ParsePath(path string) (Location, error) {
	parts := strings.Split(path, "/")
	if len(parts) != 4 {
		return Location{}, fmt.Errorf("path %q: want <namespace>/<name>/<group>-<version>-<resource>/<object>, got %d parts", path, len(parts))
	}
	for _, part := range parts {
		if part == "" {
			return Location{}, fmt.Errorf("path %q: an empty part", path)
		}
	}
	l := Location{Namespace: parts[0], Name: parts[1], Object: parts[3]}
	// From the right: of the three only a group may have hyphens of its own.
	rest, resource, ok := cutLast(parts[2], "-")
	group, version, ok2 := cutLast(rest, "-")
	if !ok || !ok2 || group == "" || version == "" || resource == "" {
		return Location{}, fmt.Errorf("path %q: %q is not <group>-<version>-<resource>", path, parts[2])
	}
	if group == coreGroup {
		group = ""
	}
	l.Group, l.Version, l.Resource = group, unescapePart.Replace(version), unescapePart.Replace(resource)
	return l, nil
}

// Key of the object. namespaced is whether its resource is; ok is false if the
// path cannot name such an object.
func (l Location) Key(namespaced bool) (key topology.Key, ok bool) {
	key = topology.Key{Group: l.Group, Version: l.Version, Resource: l.Resource, Name: l.Object}
	if namespaced {
		// A namespace has no dots.
		key.Namespace, key.Name, ok = strings.Cut(l.Object, ".")
		return key, ok && key.Namespace != "" && key.Name != ""
	}
	return key, true
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
