package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/afterimage-dr/afterimage/topology"
)

// unsaid are fields that change with every write and say nothing else.
var unsaid = []string{"/metadata/resourceVersion", "/metadata/generation"}

// fieldsOf are the differences between two states of an object; one of them may
// be nil (a create, a delete). values has these told whole.
func fieldsOf(key topology.Key, old, now *topology.Record, values bool) ([]Field, error) {
	var before, after any
	if _, ok := key.Node(); ok {
		before, after = nodeStates(old, now)
	} else {
		var err error
		if before, err = parse(old); err != nil {
			return nil, err
		}
		if after, err = parse(now); err != nil {
			return nil, err
		}
	}
	m := maskOf(key)
	if before == nil || after == nil {
		if !values || before == nil && after == nil {
			return nil, nil
		}
		return []Field{m.field("", before, after, before != nil, after != nil)}, nil
	}
	d := differ{mask: m}
	d.compare("", before, after)
	return append(d.fields, stampFields(old, now)...), nil
}

func parse(r *topology.Record) (any, error) {
	if r == nil || r.Body == nil {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(r.Body))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("body of %s: %w", r.Key, err)
	}
	return v, nil
}

// stampFields are the labels of the object's namespace, which filters go by; they
// are no part of the object, so their path is no pointer into it.
func stampFields(old, now *topology.Record) []Field {
	d := differ{mask: mask{}}
	d.compare("(namespace)/labels", texts(old.NamespaceLabels), texts(now.NamespaceLabels))
	return d.fields
}

func texts(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

type differ struct {
	mask   mask
	fields []Field
}

func (d *differ) compare(path string, before, after any) {
	if slices.Contains(unsaid, path) || reflect.DeepEqual(before, after) {
		return
	}
	a, ok1 := before.(map[string]any)
	b, ok2 := after.(map[string]any)
	if ok1 && ok2 {
		d.objects(path, a, b)
		return
	}
	x, ok1 := before.([]any)
	y, ok2 := after.([]any)
	if ok1 && ok2 {
		d.lists(path, x, y)
		return
	}
	d.fields = append(d.fields, d.mask.field(path, before, after, true, true))
}

func (d *differ) objects(path string, a, b map[string]any) {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		at := path + "/" + escape(k)
		before, was := a[k]
		after, is := b[k]
		if was && is {
			d.compare(at, before, after)
		} else if !slices.Contains(unsaid, at) {
			d.fields = append(d.fields, d.mask.field(at, before, after, was, is))
		}
	}
}

// lists are compared element by element.
func (d *differ) lists(path string, a, b []any) {
	for i := range max(len(a), len(b)) {
		at := path + "/" + strconv.Itoa(i)
		switch {
		case i >= len(a):
			d.fields = append(d.fields, d.mask.field(at, nil, b[i], false, true))
		case i >= len(b):
			d.fields = append(d.fields, d.mask.field(at, a[i], nil, true, false))
		default:
			d.compare(at, a[i], b[i])
		}
	}
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// escape writes a key as RFC 6901 asks.
func escape(k string) string { return pointer.Replace(k) }
