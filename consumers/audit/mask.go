package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/afterimage-dr/afterimage/topology"
)

// mask hides the values of Secrets. It lets pass what is known to be harmless and
// nothing else: kubectl and others keep whole Secrets in annotations.
type mask struct{ secret bool }

func maskOf(key topology.Key) mask {
	return mask{secret: key.Group == "" && key.Resource == "secrets"}
}

// clear are the paths of a Secret whose values are told, with what is below them.
var clear = []string{
	"/apiVersion", "/kind", "/type", "/immutable",
	"/metadata/name", "/metadata/namespace", "/metadata/uid", "/metadata/labels", "/metadata/creationTimestamp",
	"/metadata/deletionTimestamp", "/metadata/deletionGracePeriodSeconds", "/metadata/finalizers", "/metadata/ownerReferences",
	"/metadata/generateName", "/metadata/resourceVersion", "/metadata/generation", "/metadata/selfLink",
}

// structure are objects of a Secret whose keys are told, and values hidden.
var structure = []string{"", "/metadata", "/metadata/annotations", "/data", "/stringData"}

// field tells a difference, hidden where it must be.
func (m mask) field(path string, before, after any, was, is bool) Field {
	f := Field{Path: path}
	if was {
		f.Old = m.value(path, before)
	}
	if is {
		f.New = m.value(path, after)
	}
	return f
}

func (m mask) value(path string, v any) json.RawMessage {
	if m.secret {
		v = hide(path, v)
	}
	return encode(v)
}

func encode(v any) json.RawMessage {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // decoded from JSON, so it encodes
	return json.RawMessage(strings.TrimSuffix(b.String(), "\n"))
}

// hide replaces what may be secret below a path by its hash.
func hide(path string, v any) any {
	for _, c := range clear {
		if path == c || strings.HasPrefix(path, c+"/") {
			return v
		}
	}
	if o, ok := v.(map[string]any); ok {
		for _, s := range structure {
			if path == s {
				out := make(map[string]any, len(o))
				for k, v := range o {
					out[k] = hide(path+"/"+escape(k), v)
				}
				return out
			}
		}
	}
	return hashed(encode(v))
}

// hashed stands for a value: it tells that the value changed, or came back.
func hashed(value []byte) string {
	sum := sha256.Sum256(value)
	return "sha256:" + hex.EncodeToString(sum[:8])
}
