package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Recovery is what the entries' recoveryProcess asks for, compiled. Its entries
// are those of the configuration, as [Verdict.Entry] counts them. Safe for
// concurrent use.
type Recovery struct {
	entries []recoveryEntry
}

type recoveryEntry struct {
	fromOriginal bool
	// copied and live are the same patch for the two forms of an object.
	copied, live patch
	// hash identifies the patch; empty where there is none.
	hash string
}

// CompileRecovery checks and compiles what a configuration asks of a recovery.
// Its errors name the field path.
func CompileRecovery(c Config) (*Recovery, error) {
	r := &Recovery{entries: make([]recoveryEntry, len(c.Replication.Resources))}
	var errs field.ErrorList
	base := field.NewPath("spec", "config", "replication", "resources")
	for i := range c.Replication.Resources {
		res := &c.Replication.Resources[i]
		process := res.RecoveryProcess
		if process == nil {
			continue
		}
		e, at := &r.entries[i], base.Index(i).Child("recoveryProcess", "fromPatch")
		e.fromOriginal = process.FromOriginal != nil && process.FromOriginal.Enabled
		if len(process.FromPatch) == 0 {
			continue
		}
		resource := schema.GroupResource{Group: res.Group, Resource: res.Resource}
		var more field.ErrorList
		e.live, more = compilePatch(resource, Live, process.FromPatch, process.PatchOptions, at)
		errs = append(errs, more...)
		e.copied, _ = compilePatch(resource, Copied, process.FromPatch, process.PatchOptions, at) // the same errors
		e.hash = e.live.hash()
	}
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return r, nil
}

// entry returns one; the zero entry asks for nothing.
func (r *Recovery) entry(i int) *recoveryEntry {
	if i < 0 || i >= len(r.entries) {
		return &recoveryEntry{}
	}
	return &r.entries[i]
}

// FromOriginal tells whether objects of an entry are replaced by their originals.
// False for an entry that there is not.
func (r *Recovery) FromOriginal(entry int) bool { return r.entry(entry).fromOriginal }

// HasPatch tells whether objects of an entry are patched. An entry with neither
// original nor patch is left alone.
func (r *Recovery) HasPatch(entry int) bool { return r.entry(entry).hash != "" }

// Patch applies fromPatch of an entry to an object of key in a form: Copied for
// what [Rules.Original] or [Rules.Apply] gave, Live for what was read from the
// destination. It is applied wholly or not at all, and the identity of the object
// stays. Without a patch the body is returned as it is.
//
// A live object's patch can touch anything, Afterimage's own marks and
// resourceVersion too: who writes the result has to set these.
func (r *Recovery) Patch(entry int, key Key, form Form, body []byte) ([]byte, error) {
	e := r.entry(entry)
	if form == Live {
		return e.live.apply(key, body)
	}
	return e.copied.apply(key, body)
}

// Operations returns fromPatch of an entry for a live object as RFC 6902 operations
// that a server can apply by itself; ok is false where it could not do the same
// (skipIfNotFoundOnDelete), or there is no patch.
func (r *Recovery) Operations(entry int) (operations []map[string]*json.RawMessage, ok bool) {
	e := r.entry(entry)
	if e.hash == "" || e.live.options.AllowMissingPathOnRemove {
		return nil, false
	}
	for _, op := range e.live.operations {
		operations = append(operations, op)
	}
	return operations, true
}

// PatchHash identifies the patch of an entry, with its options, for the mark that
// keeps it from being applied twice. Empty without a patch.
func (r *Recovery) PatchHash(entry int) string { return r.entry(entry).hash }

// hash identifies the operations and options of a patch.
func (p *patch) hash() string {
	b, _ := json.Marshal(struct {
		Operations any
		Skip       bool
	}{p.operations, p.options.AllowMissingPathOnRemove}) // raw JSON that was checked always marshals
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
