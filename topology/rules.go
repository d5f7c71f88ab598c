package topology

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Rules is a compiled [Config]: filters, patches and what is copied. Safe for
// concurrent use.
type Rules struct {
	config  Config
	entries []entry
	// byResource are the indexes of the entries of a resource, in their order.
	byResource map[schema.GroupVersionResource][]int
}

// entry is one compiled resource entry of a configuration.
type entry struct {
	filter filter
	patch  patch
}

// Compile checks and compiles a configuration. Its errors name the field path.
func Compile(c Config) (*Rules, error) {
	r := &Rules{config: c, byResource: map[schema.GroupVersionResource][]int{}}
	var errs field.ErrorList
	base := field.NewPath("spec", "config", "replication", "resources")
	if len(c.Replication.Resources) == 0 {
		errs = append(errs, field.Required(base, "at least one resource to replicate"))
	}
	for i := range c.Replication.Resources {
		res, path := &c.Replication.Resources[i], base.Index(i)
		if res.Version == "" {
			errs = append(errs, field.Required(path.Child("version"), "the API version of the resource, such as v1"))
		}
		if res.Resource == "" {
			errs = append(errs, field.Required(path.Child("resource"), "the plural name of the resource, such as configmaps"))
		}
		gvr := schema.GroupVersionResource{Group: res.Group, Version: res.Version, Resource: res.Resource}
		var e entry
		var more field.ErrorList
		if res.Filters != nil {
			e.filter, more = compileFilter(res.Filters, path.Child("filters"))
			errs = append(errs, more...)
		}
		if res.Transformation != nil {
			e.patch, more = compilePatch(gvr.GroupResource(), Copied, res.Transformation.Patch, res.Transformation.PatchOptions, path.Child("transformation", "patch"))
			errs = append(errs, more...)
		}
		r.entries = append(r.entries, e)
		r.byResource[gvr] = append(r.byResource[gvr], i)
	}
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return r, nil
}

// Config returns what was compiled.
func (r *Rules) Config() Config { return r.config }

// Why an object is kept out although an entry takes it.
const (
	// SkipControllerOwned: a controller made it and will make its own at the
	// destination (includeControlled).
	SkipControllerOwned = "ControllerOwned"
	// SkipSystemNamespace: it is, or is in, a namespace of the cluster's own
	// (includeSystemNamespaces).
	SkipSystemNamespace = "SystemNamespace"
	// SkipGenerated: every cluster makes its own (includeGenerated).
	SkipGenerated = "Generated"
	// SkipIgnored: the annotation afterimage.io/ignore: "true" keeps it out.
	SkipIgnored = "Ignored"
	// SkipLoop: it came from the destination in the first place.
	SkipLoop = "Loop"
	// SkipHeldBack: it would block writes at the destination and waits for a
	// recovery (holdBackWebhooks).
	SkipHeldBack = "HeldBack"
)

// Verdict is what the rules make of a record.
type Verdict struct {
	// InScope: an entry takes the object and nothing keeps it out.
	InScope bool
	// Entry is the index of the first entry that takes it; -1 without one.
	Entry int
	// Conflict: a later entry takes it too.
	Conflict bool
	// Body is what the destination must hold, without Afterimage's own marks.
	Body []byte
	// Hash of Body (and of the namespace stamp where forceNamespaceCreation needs it).
	Hash string
	// Skip says why an object is kept out although an entry takes it (ControllerOwned, SystemNamespace, Ignored, Loop, HeldBack, …).
	Skip string
	// HeldBack: the object (where Skip is SkipHeldBack) or a part of it is kept
	// from the destination until a recovery.
	HeldBack bool
	// Err: the patch could not be applied; the object must be held.
	Err error
}

// Apply computes the desired state of a record of the change log. It is a pure
// function of the record and the configuration. A delete is out of scope.
//
// An object with a deletionTimestamp is in scope: it still exists, and is
// deleted at the destination when it is gone from the source.
func (r *Rules) Apply(rec *Record) Verdict {
	key, obj, out := r.take(rec)
	if !out.InScope || out.Err != nil {
		return out
	}
	if r.holdsBack() && blocksWrites(key, obj) {
		out.InScope, out.Skip, out.HeldBack = false, SkipHeldBack, true
		return out
	}
	body, err := r.copied(key, obj)
	if err == nil {
		body, err = r.entries[out.Entry].patch.apply(key, body)
	}
	if err == nil && r.holdsBack() {
		body, out.HeldBack, err = withoutConversion(key, body)
	}
	return r.complete(out, key, rec, body, err)
}

// Original computes what a recovery restores of a record of the change log: as
// Apply does, with the same scope, but without the entry's transformation and
// with nothing held back.
func (r *Rules) Original(rec *Record) Verdict {
	key, obj, out := r.take(rec)
	if !out.InScope || out.Err != nil {
		return out
	}
	body, err := r.copied(key, obj)
	return r.complete(out, key, rec, body, err)
}

// InScope tells whether an entry takes a record and nothing keeps it out, without
// computing anything of it. What cannot be patched, or is held back, is in scope.
func (r *Rules) InScope(rec *Record) bool {
	_, _, out := r.take(rec)
	return out.InScope
}

// complete fills a verdict in with what the object has become.
func (r *Rules) complete(out Verdict, key Key, rec *Record, body []byte, err error) Verdict {
	if out.Body, out.Err = body, err; err == nil {
		out.Hash = r.hash(key, body, rec)
	}
	return out
}

// take decides whether an object is in scope, and by which entry.
func (r *Rules) take(rec *Record) (Key, *object, Verdict) {
	out := Verdict{Entry: -1}
	if rec.Op == Delete || rec.Body == nil {
		return Key{}, nil, out
	}
	key, err := ParseKey(rec.Key)
	if err != nil {
		return key, nil, out
	}
	candidates := r.byResource[key.GVR()]
	if len(candidates) == 0 {
		return key, nil, out
	}
	obj, err := parseObject(rec.Body)
	if err != nil {
		// What is no object can be neither filtered nor patched; it is held, so
		// that it shows, and is never taken for a delete.
		return key, nil, Verdict{InScope: true, Entry: candidates[0], Err: err}
	}
	for _, i := range candidates {
		if !r.entries[i].filter.matches(key, obj, rec.NamespaceLabels) {
			continue
		}
		if out.Entry >= 0 {
			out.Conflict = true
			break
		}
		out.Entry = i
	}
	if out.Entry < 0 {
		return key, obj, out
	}
	out.Skip = r.skip(key, obj)
	out.InScope = out.Skip == ""
	return key, obj, out
}

// copied is the copied form of an object.
func (r *Rules) copied(key Key, obj *object) ([]byte, error) {
	if err := obj.toCopied(key, r.config.Replication.KeepNodePorts); err != nil {
		return nil, fmt.Errorf("copying %s: %w", key, err)
	}
	return obj.encode(), nil
}

// hash identifies what the destination must hold: the body, and where the
// object's namespace may have to be created, the stamp it is created from.
func (r *Rules) hash(key Key, body []byte, rec *Record) string {
	if !r.config.Replication.ForceNamespaceCreation || key.Namespace == "" {
		sum := sha256.Sum256(body)
		return hex.EncodeToString(sum[:16])
	}
	h := sha256.New()
	h.Write(body)
	for _, m := range []map[string]string{rec.NamespaceLabels, rec.NamespaceAnnotations} {
		b, _ := json.Marshal(m) // a map of strings always marshals, its keys sorted
		h.Write([]byte{'\n'})
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Covers tells whether some entry names the resource of the key.
func (r *Rules) Covers(key Key) bool { return len(r.byResource[key.GVR()]) > 0 }

// Skipped tells, from what never changes about an object (its namespace and its
// name), that no entry can take it, so that the eventslistener need not log it:
// system namespaces and what every cluster makes by itself.
func (r *Rules) Skipped(key Key) bool { return r.skipKey(key) != "" }

func (r *Rules) skipKey(key Key) string {
	rep := &r.config.Replication
	if !rep.IncludeSystemNamespaces {
		ns := key.Namespace
		if key.Group == "" && key.Resource == "namespaces" {
			ns = key.Name
		}
		if strings.HasPrefix(ns, "kube-") || strings.HasPrefix(ns, "openshift") {
			return SkipSystemNamespace
		}
	}
	if !rep.IncludeGenerated && generatedKey(key) {
		return SkipGenerated
	}
	return ""
}

// generatedKey names what every cluster makes by itself, by name.
func generatedKey(key Key) bool {
	switch key.Resource {
	case "configmaps":
		// Published into every namespace by the root CA and service CA controllers.
		return key.Group == "" && (key.Name == "kube-root-ca.crt" || key.Name == "openshift-service-ca.crt")
	case "services", "endpoints":
		// The API server's own address.
		return key.Group == "" && key.Namespace == "default" && key.Name == "kubernetes"
	case "endpointslices":
		return key.Group == "discovery.k8s.io" && key.Namespace == "default" && key.Name == "kubernetes"
	}
	return false
}

// skip says why an object that an entry takes is kept out; empty: it is not.
func (r *Rules) skip(key Key, obj *object) string {
	if why := r.skipKey(key); why != "" {
		return why
	}
	rep := &r.config.Replication
	if annotations := obj.meta["annotations"]; bytes.Contains(annotations, []byte(MarkPrefix)) {
		marks := obj.strings("annotations")
		if marks[IgnoreAnnotation] == "true" {
			return SkipIgnored
		}
		// A→B and B→A at once would send an object round for ever, and would let
		// the copy win over its original.
		if owner, ok := OwnerIn(marks); ok && r.config.DestinationUID != "" && owner.SourceUID == r.config.DestinationUID {
			return SkipLoop
		}
	}
	if !rep.IncludeControlled && obj.controlled(key) {
		return SkipControllerOwned
	}
	if !rep.IncludeGenerated && obj.generated(key) {
		return SkipGenerated
	}
	return ""
}

// controlled tells whether a controller made the object from another one.
func (o *object) controlled(key Key) bool {
	if refs := o.meta["ownerReferences"]; bytes.Contains(refs, []byte(`"controller"`)) {
		var owners []struct {
			Controller *bool `json:"controller"`
		}
		if json.Unmarshal(refs, &owners) == nil {
			for _, ref := range owners {
				if ref.Controller != nil && *ref.Controller {
					return true
				}
			}
		}
	}
	// The endpoints controller sets no owner, but says that it manages them.
	return key.Group == "" && key.Resource == "endpoints" &&
		o.strings("labels")["endpoints.kubernetes.io/managed-by"] == "endpoint-controller"
}

// serviceAccountToken is the type of Secrets that hold a token of one cluster.
const serviceAccountToken = `"kubernetes.io/service-account-token"`

// generated tells whether every cluster makes the object by itself, as far as
// only its content says so.
func (o *object) generated(key Key) bool {
	switch {
	case key.Group == "" && key.Resource == "secrets":
		return string(o.top["type"]) == serviceAccountToken
	case key.Group == "apiregistration.k8s.io" && key.Resource == "apiservices":
		// Registered by the aggregator for built-in groups and for CRDs.
		_, automatic := o.strings("labels")["kube-aggregator.kubernetes.io/automanaged"]
		return automatic
	}
	return false
}
