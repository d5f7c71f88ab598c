package owned

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// Precondition of a write: the object that was read.
type Precondition struct{ UID, ResourceVersion string }

// renamedError: the object is not the one its key names.
type renamedError struct{ what, has, want string }

func (e *renamedError) Error() string {
	return fmt.Sprintf("the %s of the object is %q and must stay %q: a patch must not move an object", e.what, e.has, e.want)
}

// State is what an object of ours must be.
type State struct {
	Key     topology.Key
	Version topology.Version
	// UID of the object in the source.
	UID string
	// Hash of the content.
	Hash string
	// Body without marks.
	Body []byte
	// Adopted: it was not made by Afterimage, and is never deleted.
	Adopted bool
	// Recovered is the mark of a recovery; see [topology.RecoveredAnnotation].
	Recovered string
}

// Marked returns the body to write: the state, with the marks of its owner. A nil
// precondition makes the body of a create.
func (s *State) Marked(owner topology.Owner, r kube.Resource, pre *Precondition) ([]byte, error) {
	var top, meta map[string]json.RawMessage
	if err := json.Unmarshal(s.Body, &top); err != nil {
		return nil, fmt.Errorf("desired object: %w", err)
	}
	if top == nil {
		return nil, errors.New("desired object: it is null")
	}
	if raw := top["metadata"]; raw != nil {
		if err := json.Unmarshal(raw, &meta); err != nil {
			return nil, fmt.Errorf("metadata of the desired object: %w", err)
		}
	}
	if meta == nil {
		meta = map[string]json.RawMessage{}
	}
	if err := fixed(meta, "name", s.Key.Name); err != nil {
		return nil, err
	}
	if err := fixed(meta, "namespace", s.Key.Namespace); err != nil {
		return nil, err
	}
	top["apiVersion"], top["kind"] = apiVersion(s.Key), quoted(r.Kind)
	var err error
	if meta["labels"], err = with(meta["labels"], pair{topology.OwnerLabel, owner.Hash()}); err != nil {
		return nil, fmt.Errorf("labels of the desired object: %w", err)
	}
	if meta["annotations"], err = with(meta["annotations"], s.marks(owner)...); err != nil {
		return nil, fmt.Errorf("annotations of the desired object: %w", err)
	}
	for _, f := range [...]string{"uid", "resourceVersion", "managedFields", "generation", "creationTimestamp", "selfLink"} {
		delete(meta, f)
	}
	if pre != nil {
		meta["uid"], meta["resourceVersion"] = quoted(pre.UID), quoted(pre.ResourceVersion)
	}
	top["metadata"] = join(meta)
	return join(top), nil
}

// Named is the body of an apply that sets nothing, which gives up what its manager
// owns.
func Named(key topology.Key, r kube.Resource, pre Precondition) []byte {
	meta := map[string]json.RawMessage{"name": quoted(key.Name), "uid": quoted(pre.UID), "resourceVersion": quoted(pre.ResourceVersion)}
	if key.Namespace != "" {
		meta["namespace"] = quoted(key.Namespace)
	}
	return join(map[string]json.RawMessage{"apiVersion": apiVersion(key), "kind": quoted(r.Kind), "metadata": join(meta)})
}

func apiVersion(key topology.Key) json.RawMessage {
	if key.Group == "" {
		return quoted(key.Version)
	}
	return quoted(key.Group + "/" + key.Version)
}

// marks are the annotations of an object of ours.
func (s *State) marks(owner topology.Owner) []pair {
	marks := []pair{
		{topology.LiveSynchronizationAnnotation, owner.LiveSynchronization},
		{topology.SourceClusterAnnotation, owner.SourceUID},
		{topology.KeyAnnotation, s.Key.String()},
		{topology.VersionAnnotation, s.Version.String()},
		{topology.HashAnnotation, s.Hash},
		{topology.SourceUIDAnnotation, s.UID},
	}
	if s.Adopted {
		marks = append(marks, pair{topology.AdoptedAnnotation, "true"})
	}
	if s.Recovered != "" {
		marks = append(marks, pair{topology.RecoveredAnnotation, s.Recovered})
	}
	return marks
}

// join writes an object whose values are JSON already. It does not check them
// again, as encoding/json would, at the cost of the rest of a small write.
func join(m map[string]json.RawMessage) json.RawMessage {
	keys, size := make([]string, 0, len(m)), 2
	for k, v := range m {
		keys = append(keys, k)
		size += len(k) + len(v) + 4
	}
	slices.Sort(keys)
	b := make([]byte, 0, size)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, quoted(k)...)
		b = append(b, ':')
		b = append(b, m[k]...)
	}
	return append(b, '}')
}

// fixed sets a field that identifies the object, and refuses another value: a
// create under another name would be an object nobody tracks.
func fixed(meta map[string]json.RawMessage, field, value string) error {
	var has string
	if raw, ok := meta[field]; ok && !bytes.Equal(raw, []byte("null")) {
		if err := json.Unmarshal(raw, &has); err != nil {
			return fmt.Errorf("%s of the desired object: %w", field, err)
		}
		if has != value {
			return &renamedError{field, has, value}
		}
	}
	if value != "" {
		meta[field] = quoted(value)
	}
	return nil
}

type pair struct{ key, value string }

// with adds pairs to a JSON map of strings.
func with(raw json.RawMessage, pairs ...pair) (json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	if raw != nil && !bytes.Equal(raw, []byte("null")) {
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
	}
	for _, p := range pairs {
		m[p.key] = quoted(p.value)
	}
	return join(m), nil
}

// quoted is a string as JSON. Names and values of Kubernetes' metadata rarely
// need an escape.
func quoted(s string) json.RawMessage {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			b, _ := json.Marshal(s) // a string always marshals
			return b
		}
	}
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Marshal without the escaping of HTML, which only makes bodies longer.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// Ownership of a destination object, seen from one key.
type Ownership int

const (
	// Foreign: Afterimage did not write it.
	Foreign Ownership = iota
	// Ours, under this very key.
	Ours
	// OursOtherVersion: ours, under the same object's key in another API version.
	OursOtherVersion
	// Others: written for another LiveSynchronization, source or key.
	Others
)

// OwnershipOf reads the marks. What was written for one of the former sources of
// the LiveSynchronization is the owner's.
func OwnershipOf(m *kube.Meta, owner topology.Owner, key topology.Key, former ...string) Ownership {
	o, ok := topology.OwnerIn(m.Annotations)
	if !ok {
		return Foreign
	}
	if slices.Contains(former, o.SourceUID) {
		o.SourceUID = owner.SourceUID
	}
	if o != owner {
		return Others
	}
	has, err := topology.ParseKey(m.Annotations[topology.KeyAnnotation])
	if err != nil {
		return Others
	}
	if has == key {
		return Ours
	}
	has.Version = key.Version
	if has == key {
		return OursOtherVersion
	}
	return Others
}

// AppliedVersion is the version an object says it has; zero if it says none.
func AppliedVersion(m *kube.Meta) topology.Version {
	v, err := topology.ParseVersion(m.Annotations[topology.VersionAnnotation])
	if err != nil {
		return topology.Version{}
	}
	return v
}

// FieldsHash is over the fields that are ours: when anybody changes one, the
// server takes it out of our entry of managedFields. Empty without an entry.
func FieldsHash(m *kube.Meta) string {
	d := xxhash.New()
	found := false
	for i := range m.ManagedFields {
		if f := &m.ManagedFields[i]; f.Manager == topology.FieldManager && f.Subresource == "" {
			found = true
			_, _ = d.Write(f.FieldsV1)
		}
	}
	if !found {
		return ""
	}
	return fmt.Sprintf("%016x", d.Sum64())
}
