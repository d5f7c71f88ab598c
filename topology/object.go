package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// doc is a JSON object whose values are decoded only where somebody looks.
type doc map[string]json.RawMessage

// errNull is what a doc cannot be read from.
var errNull = errors.New("null where an object was expected")

func parseDoc(raw []byte) (doc, error) {
	var d doc
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	if d == nil {
		return nil, errNull
	}
	return d, nil
}

// encode writes the doc with its keys sorted, so that equal content has equal
// bytes. Values are compact already when they come from an API server, and are
// made so where they do not.
func (d doc) encode() []byte {
	keys := make([]string, 0, len(d))
	size := 2
	for k, v := range d {
		keys = append(keys, k)
		size += len(k) + len(v) + 4
	}
	slices.Sort(keys)
	var b bytes.Buffer
	b.Grow(size)
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(&b, k)
		b.WriteByte(':')
		if err := json.Compact(&b, d[k]); err != nil {
			b.WriteString("null") // unreachable: values were decoded or encoded before
		}
	}
	b.WriteByte('}')
	return b.Bytes()
}

// writeString writes a JSON string; names of fields need no escaping.
func writeString(b *bytes.Buffer, s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			b.Write(marshal(s))
			return
		}
	}
	b.WriteByte('"')
	b.WriteString(s)
	b.WriteByte('"')
}

// marshal is json.Marshal without the escaping of HTML.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // only plain data is given
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// cut removes the field at a path, through objects and, with "*", every element
// of a list. What is not there, or is not of that shape, is left alone.
func (d doc) cut(path ...string) error {
	raw, ok := d[path[0]]
	if !ok {
		return nil
	}
	if len(path) == 1 {
		delete(d, path[0])
		return nil
	}
	out, err := cutIn(raw, path[1:])
	if err != nil {
		return fmt.Errorf("%s: %w", path[0], err)
	}
	d[path[0]] = out
	return nil
}

func cutIn(raw json.RawMessage, path []string) (json.RawMessage, error) {
	if string(raw) == "null" {
		return raw, nil
	}
	// Most objects do not have the field at all; looking for its name is far
	// cheaper than decoding.
	last := path[len(path)-1]
	if !bytes.Contains(raw, []byte(`"`+last+`"`)) {
		return raw, nil
	}
	if path[0] == "*" {
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err
		}
		for i := range list {
			var err error
			if list[i], err = cutIn(list[i], path[1:]); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return marshal(list), nil
	}
	sub, err := parseDoc(raw)
	if err != nil {
		return nil, err
	}
	if err := sub.cut(path...); err != nil {
		return nil, err
	}
	return sub.encode(), nil
}

// object is a Kubernetes object of which the top level and the metadata are
// decoded, and nothing else.
type object struct {
	top, meta doc
	decoded   map[string]map[string]string
}

func parseObject(body []byte) (*object, error) {
	top, err := parseDoc(body)
	if err != nil {
		return nil, fmt.Errorf("decoding the object: %w", err)
	}
	meta, err := parseDoc(top["metadata"])
	if err != nil {
		return nil, fmt.Errorf("decoding the object's metadata: %w", err)
	}
	return &object{top: top, meta: meta}, nil
}

// strings returns metadata.labels or metadata.annotations; nil where there are none.
func (o *object) strings(name string) map[string]string {
	if m, ok := o.decoded[name]; ok {
		return m
	}
	var m map[string]string
	if raw := o.meta[name]; len(raw) > 0 {
		if json.Unmarshal(raw, &m) != nil {
			m = nil // the API server lets no such thing through
		}
	}
	if o.decoded == nil {
		o.decoded = make(map[string]map[string]string, 2)
	}
	o.decoded[name] = m
	return m
}

// encode returns the object's bytes.
func (o *object) encode() []byte {
	o.top["metadata"] = o.meta.encode()
	return o.top.encode()
}
