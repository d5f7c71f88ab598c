package synchronizer

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

// SourceUIDAnnotation is the uid of the source object last written: it tells a
// recreation in the source also after the state was lost.
const SourceUIDAnnotation = topology.MarkPrefix + "source-uid"

// ForcedNamespaceAnnotation marks a namespace that exists because
// forceNamespaceCreation asked for it; it is never pruned.
const ForcedNamespaceAnnotation = topology.MarkPrefix + "forced-namespace"

// precondition of a write: the object that was read.
type precondition struct{ uid, rv string }

// errRenamed: the patched object is not the one its key names.
type errRenamed struct{ what, has, want string }

func (e *errRenamed) Error() string {
	return fmt.Sprintf("the %s of the object is %q and must stay %q: a patch must not move an object", e.what, e.has, e.want)
}

// marked returns the body to write: what is desired, with the marks of its owner.
// A nil precondition makes the body of a create.
func marked(w *want, owner topology.Owner, r kube.Resource, adopted bool, pre *precondition) ([]byte, error) {
	var top, meta map[string]json.RawMessage
	if err := json.Unmarshal(w.body, &top); err != nil {
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
	if err := fixed(meta, "name", w.key.Name); err != nil {
		return nil, err
	}
	if err := fixed(meta, "namespace", w.key.Namespace); err != nil {
		return nil, err
	}
	apiVersion := w.key.Version
	if w.key.Group != "" {
		apiVersion = w.key.Group + "/" + w.key.Version
	}
	top["apiVersion"], top["kind"] = quoted(apiVersion), quoted(r.Kind)
	var err error
	if meta["labels"], err = with(meta["labels"], pair{topology.OwnerLabel, owner.Hash()}); err != nil {
		return nil, fmt.Errorf("labels of the desired object: %w", err)
	}
	marks := []pair{
		{topology.LiveSynchronizationAnnotation, owner.LiveSynchronization},
		{topology.SourceClusterAnnotation, owner.SourceUID},
		{topology.KeyAnnotation, w.keyText},
		{topology.VersionAnnotation, w.version.String()},
		{topology.HashAnnotation, w.hash},
		{SourceUIDAnnotation, w.uid},
	}
	if adopted {
		marks = append(marks, pair{topology.AdoptedAnnotation, "true"})
	}
	if meta["annotations"], err = with(meta["annotations"], marks...); err != nil {
		return nil, fmt.Errorf("annotations of the desired object: %w", err)
	}
	for _, f := range [...]string{"uid", "resourceVersion", "managedFields", "generation", "creationTimestamp", "selfLink"} {
		delete(meta, f)
	}
	if pre != nil {
		meta["uid"], meta["resourceVersion"] = quoted(pre.uid), quoted(pre.rv)
	}
	top["metadata"] = join(meta)
	return join(top), nil
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
			return &errRenamed{field, has, value}
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

// marshal without the escaping of HTML, which only makes bodies longer.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// ownership of a destination object, seen from one key.
type ownership int

const (
	// foreign: Afterimage did not write it.
	foreign ownership = iota
	// ours, under this very key.
	ours
	// oursOtherVersion: ours, under the same object's key in another API version.
	oursOtherVersion
	// others: written for another LiveSynchronization, source or key.
	others
)

// ownershipOf reads the marks. What was written for one of the former sources of
// the LiveSynchronization is the owner's.
func ownershipOf(m *kube.Meta, owner topology.Owner, key topology.Key, former ...string) ownership {
	o, ok := topology.OwnerIn(m.Annotations)
	if !ok {
		return foreign
	}
	if slices.Contains(former, o.SourceUID) {
		o.SourceUID = owner.SourceUID
	}
	if o != owner {
		return others
	}
	has, err := topology.ParseKey(m.Annotations[topology.KeyAnnotation])
	if err != nil {
		return others
	}
	if has == key {
		return ours
	}
	has.Version = key.Version
	if has == key {
		return oursOtherVersion
	}
	return others
}

// appliedVersion is the version an object says it has; zero if it says none.
func appliedVersion(m *kube.Meta) topology.Version {
	v, err := topology.ParseVersion(m.Annotations[topology.VersionAnnotation])
	if err != nil {
		return topology.Version{}
	}
	return v
}

// fieldsHash is over the fields that are ours: when anybody changes one, the
// server takes it out of our entry of managedFields. Empty without an entry.
func fieldsHash(m *kube.Meta) string {
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
