package eventslistener

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/topology"
)

// object is one state of a source object, as the log carries it.
type object struct {
	key topology.Key
	uid string
	rv  string
	// body is the object without status and metadata.managedFields, with
	// apiVersion and kind first; otherwise the server's own bytes, so that the
	// same state gives the same bytes from a list, a watch and a GET.
	body []byte
	// sum is over body without metadata.resourceVersion and metadata.generation.
	sum [sha256.Size]byte
	// managed is metadata.managedFields, undecoded: only what is appended needs it.
	managed json.RawMessage
	deleted bool
}

// fieldOf is a field of an object, undecoded.
type fieldOf struct {
	name  string
	value json.RawMessage
}

func fieldsOf(raw []byte) ([]fieldOf, error) {
	fields := make([]fieldOf, 0, 12)
	err := kube.Walk(raw, func(name string, value json.RawMessage) error {
		fields = append(fields, fieldOf{name, value})
		return nil
	})
	return fields, err
}

// decode splits a source object. Only the top level and the metadata are looked
// into. The result does not alias raw but for managed.
func decode(r kube.Resource, raw []byte) (object, error) {
	top, err := fieldsOf(raw)
	if err != nil {
		return object{}, fmt.Errorf("object of %s: %w", r.Resource, err)
	}
	var metadata []fieldOf
	for _, f := range top {
		if f.name == "metadata" {
			if metadata, err = fieldsOf(f.value); err != nil {
				return object{}, fmt.Errorf("metadata of an object of %s: %w", r.Resource, err)
			}
		}
	}
	o := object{key: topology.Key{Group: r.Group, Version: r.Version, Resource: r.Resource}}
	for _, f := range metadata {
		switch f.name {
		case "name":
			o.key.Name, err = text(f.value)
		case "namespace":
			o.key.Namespace, err = text(f.value)
		case "uid":
			o.uid, err = text(f.value)
		case "resourceVersion":
			o.rv, err = text(f.value)
		case "managedFields":
			o.managed = f.value
		}
		if err != nil {
			return object{}, fmt.Errorf("metadata.%s of an object of %s: %w", f.name, r.Resource, err)
		}
	}
	if o.key.Name == "" || o.rv == "" {
		return object{}, fmt.Errorf("object of %s without a name or resourceVersion", r.Resource)
	}
	o.compose(r, len(raw), top, metadata)
	return o, nil
}

// compose writes body and sum.
func (o *object) compose(r kube.Resource, size int, top, metadata []fieldOf) {
	b := bytes.NewBuffer(make([]byte, 0, size))
	h := sha256.New()
	hashed := 0
	hash := func() { h.Write(b.Bytes()[hashed:]); hashed = b.Len() }
	pass := func() { hashed = b.Len() }

	b.WriteString(`{"apiVersion":`)
	writeText(b, r.GroupVersion().String())
	b.WriteString(`,"kind":`)
	writeText(b, r.Kind)
	written := false // of an object with two, which no API server sends, one
	for _, f := range top {
		switch f.name {
		case "apiVersion", "kind", "status":
		case "metadata":
			if written {
				continue
			}
			written = true
			b.WriteString(`,"metadata":{`)
			first := true
			for _, m := range metadata {
				if m.name == "managedFields" {
					continue
				}
				hash()
				writeField(b, m, first)
				first = false
				if m.name == "resourceVersion" || m.name == "generation" {
					pass()
				}
			}
			b.WriteByte('}')
		default:
			writeField(b, f, false)
		}
	}
	b.WriteByte('}')
	hash()
	o.body = b.Bytes()
	h.Sum(o.sum[:0])
}

func writeField(b *bytes.Buffer, f fieldOf, first bool) {
	if !first {
		b.WriteByte(',')
	}
	writeText(b, f.name)
	b.WriteByte(':')
	b.Write(f.value)
}

// plain tells whether text is the same in JSON but for its quotes.
func plain[T string | json.RawMessage](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// text decodes a JSON string. Names and versions hardly ever need the decoder.
func text(value json.RawMessage) (s string, err error) {
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' && plain(value[1:n-1]) {
		return string(value[1 : n-1]), nil
	}
	err = json.Unmarshal(value, &s)
	return s, err
}

func writeText(b *bytes.Buffer, s string) {
	if plain(s) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return
	}
	quoted, _ := json.Marshal(s) // a string always marshals
	b.Write(quoted)
}

// hash is the content hash: the object and the stamp of its namespace.
func (o *object) hash(s stamp) string {
	if o.key.Namespace == "" {
		return hex.EncodeToString(o.sum[:16])
	}
	h := sha256.New()
	h.Write(o.sum[:])
	h.Write(s.sum[:])
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0])[:16])
}

// managers summarises metadata.managedFields: who changed the object, and when.
func (o *object) managers() []topology.Manager {
	if len(o.managed) == 0 {
		return nil
	}
	var entries []struct {
		Manager   string `json:"manager"`
		Operation string `json:"operation"`
		Time      string `json:"time"`
	}
	if json.Unmarshal(o.managed, &entries) != nil {
		return nil // for audit only: an odd entry must not keep the object from being logged
	}
	managers := make([]topology.Manager, 0, len(entries))
	for _, e := range entries {
		managers = append(managers, topology.Manager{Name: e.Manager, Operation: e.Operation, Time: e.Time})
	}
	return managers
}

// resourceVersionOf reads metadata.resourceVersion, of a bookmark for example.
func resourceVersionOf(raw []byte) (string, error) {
	var rv string
	err := kube.Walk(raw, func(name string, value json.RawMessage) error {
		if name != "metadata" {
			return nil
		}
		return kube.Walk(value, func(name string, value json.RawMessage) error {
			if name != "resourceVersion" {
				return nil
			}
			return json.Unmarshal(value, &rv)
		})
	})
	if err == nil && rv == "" {
		err = fmt.Errorf("no metadata.resourceVersion")
	}
	return rv, err
}
