package owned

import (
	"bytes"
	"encoding/json"
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/afterimage-dr/afterimage/topology"
)

// Contains tells whether a destination object already is what is desired: every
// field of desired is there with the same value; what else is there does not
// matter. Marks, and what identifies the object, are not compared. A value the
// server writes otherwise (a quantity) counts as the same; what is empty counts
// as absent. In doubt the answer is false.
func Contains(live, desired []byte) bool {
	var l, d map[string]any
	if decode(live, &l) != nil || decode(desired, &d) != nil {
		return false
	}
	lm, _ := l["metadata"].(map[string]any)
	dm, _ := d["metadata"].(map[string]any)
	for _, field := range [...]string{"labels", "annotations"} {
		want, _ := dm[field].(map[string]any)
		has, _ := lm[field].(map[string]any)
		for k, v := range want {
			if !topology.IsMark(k) && has[k] != v {
				return false
			}
		}
	}
	for _, field := range [...]string{"metadata", "apiVersion", "kind", "status"} {
		delete(d, field)
	}
	// The payload of a ConfigMap or Secret means what it says, to the letter.
	for _, field := range [...]string{"data", "binaryData", "stringData"} {
		want, ok := d[field].(map[string]any)
		if !ok {
			continue
		}
		has, _ := l[field].(map[string]any)
		for k, v := range want {
			if h, ok := has[k]; !ok || !reflect.DeepEqual(h, v) {
				return false
			}
		}
		delete(d, field)
	}
	return subset(l, d, false)
}

func decode(b []byte, into *map[string]any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(into)
}

// quantities are the fields whose values, or whose members' values, are resource
// quantities, which a server may write otherwise than they were sent.
var quantities = map[string]bool{
	"requests": true, "limits": true, "hard": true, "capacity": true, "overhead": true, "podFixed": true,
	"min": true, "max": true, "default": true, "defaultRequest": true, "maxLimitRequestRatio": true,
	"sizeLimit": true, "divisor": true, "averageValue": true,
}

func subset(live, desired any, quantity bool) bool {
	switch d := desired.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if !ok {
			return empty(desired) && empty(live)
		}
		for k, v := range d {
			if !subset(l[k], v, quantity || quantities[k]) {
				return false
			}
		}
		return true
	case []any:
		l, ok := live.([]any)
		if !ok || len(l) != len(d) {
			return empty(desired) && empty(live)
		}
		for i := range d {
			if !subset(l[i], d[i], quantity) {
				return false
			}
		}
		return true
	}
	return live == desired || empty(desired) && empty(live) || quantity && sameQuantity(live, desired)
}

func empty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case bool:
		return !x
	case string:
		return x == ""
	case json.Number:
		return x == "0"
	case []any:
		return len(x) == 0
	case map[string]any:
		for _, e := range x {
			if !empty(e) {
				return false
			}
		}
		return true
	}
	return false
}

// sameQuantity compares what may be resource quantities, such as 0.5 and 500m.
func sameQuantity(a, b any) bool {
	text := func(v any) string {
		switch x := v.(type) {
		case string:
			return x
		case json.Number:
			return x.String()
		}
		return ""
	}
	s, t := text(a), text(b)
	if s == "" || t == "" {
		return false
	}
	if s == t {
		return true // 80 and "80": an IntOrString
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return false
	}
	r, err := resource.ParseQuantity(t)
	return err == nil && q.Cmp(r) == 0
}
