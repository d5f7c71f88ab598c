package bucket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/afterimage-dr/afterimage/topology"
)

// The control annotations: added to what is stored, removed from what is read.
const (
	liveSynchronizationAnnotation   = topology.LiveSynchronizationAnnotation
	sourceClusterAnnotation         = topology.SourceClusterAnnotation
	keyAnnotation                   = topology.KeyAnnotation
	versionAnnotation               = topology.VersionAnnotation
	sourceUIDAnnotation             = topology.MarkPrefix + "source-uid"
	sourceRVAnnotation              = topology.MarkPrefix + "source-resource-version"
	syncedAtAnnotation              = topology.MarkPrefix + "synced-at"
	namespaceLabelsAnnotation       = topology.MarkPrefix + "namespace-labels"
	namespaceAnnotationsAnnotation  = topology.MarkPrefix + "namespace-annotations"
	originalAnnotationsAnnotation   = topology.MarkPrefix + "original-annotations"
	annotationsAbsent, fieldMissing = "absent", ""
)

// controlAnnotations are all of them. The source object may have annotations of
// these names itself, being a copy made by another Afterimage: those are kept
// aside in original-annotations.
var controlAnnotations = []string{
	liveSynchronizationAnnotation, sourceClusterAnnotation, keyAnnotation, versionAnnotation, sourceUIDAnnotation, sourceRVAnnotation,
	syncedAtAnnotation, namespaceLabelsAnnotation, namespaceAnnotationsAnnotation, originalAnnotationsAnnotation,
}

// errUnstamped: the content carries no stamp of ours.
var errUnstamped = errors.New("no control annotations")

// object is JSON of which the top level, the metadata and the annotations are
// decoded and nothing else, so that all else keeps its bytes.
type object struct {
	top, meta, annotations map[string]json.RawMessage
	// had is what the annotations were when they were no object: absent or null.
	had string
}

func parse(content []byte) (*object, error) {
	var o object
	if err := json.Unmarshal(content, &o.top); err != nil {
		return nil, fmt.Errorf("decoding the object: %w", err)
	}
	if err := json.Unmarshal(o.top["metadata"], &o.meta); err != nil || o.meta == nil {
		return nil, errors.New("decoding the object: metadata is not an object")
	}
	raw, ok := o.meta["annotations"]
	switch {
	case !ok:
		o.had = annotationsAbsent
	case string(raw) == "null":
		o.had = "null"
	default:
		if err := json.Unmarshal(raw, &o.annotations); err != nil {
			return nil, errors.New("decoding the object: metadata.annotations is not an object")
		}
	}
	if o.annotations == nil {
		o.annotations = map[string]json.RawMessage{}
	}
	return &o, nil
}

// encode writes the object with the keys that were decoded in order.
func (o *object) encode() []byte {
	switch {
	case o.had == annotationsAbsent && len(o.annotations) == 0:
		delete(o.meta, "annotations")
	case o.had == "null" && len(o.annotations) == 0:
		o.meta["annotations"] = json.RawMessage("null")
	default:
		o.meta["annotations"] = marshal(o.annotations)
	}
	o.top["metadata"] = marshal(o.meta)
	return marshal(o.top)
}

// text of an annotation; empty where there is none or it is no string.
func (o *object) text(name string) string {
	var s string
	if raw, ok := o.annotations[name]; !ok || json.Unmarshal(raw, &s) != nil {
		return fieldMissing
	}
	return s
}

// marshal is json.Marshal without the escaping of HTML.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // only plain data and what was decoded before
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// Content is what is stored: the body with the control annotations. It is a pure
// function of the original. An error means that the body is no object.
func (o *Original) Content() ([]byte, error) {
	object, err := parse(o.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Key, err)
	}
	aside := map[string]json.RawMessage{}
	for _, name := range controlAnnotations {
		if raw, ok := object.annotations[name]; ok {
			aside[name] = raw
			delete(object.annotations, name)
		}
	}
	set := func(name, value string) {
		if value != "" {
			object.annotations[name] = marshal(value)
		}
	}
	stamp := func(name string, m map[string]string) {
		if m != nil {
			set(name, string(marshal(m)))
		}
	}
	set(liveSynchronizationAnnotation, o.LiveSynchronization)
	set(sourceClusterAnnotation, o.SourceCluster)
	set(keyAnnotation, o.Key.String())
	set(versionAnnotation, o.Version.String())
	set(sourceUIDAnnotation, o.UID)
	set(sourceRVAnnotation, o.Version.RV)
	if !o.SyncedAt.IsZero() {
		set(syncedAtAnnotation, o.SyncedAt.UTC().Format(time.RFC3339Nano))
	}
	stamp(namespaceLabelsAnnotation, o.NamespaceLabels)
	stamp(namespaceAnnotationsAnnotation, o.NamespaceAnnotations)
	if len(aside) > 0 {
		set(originalAnnotationsAnnotation, string(marshal(aside)))
	} else {
		set(originalAnnotationsAnnotation, object.had)
	}
	return object.encode(), nil
}

// decode is the inverse of [Original.Content]; Path is left empty.
func decode(content []byte) (Original, error) {
	object, err := parse(content)
	if err != nil {
		return Original{}, err
	}
	if object.text(keyAnnotation) == "" || object.text(versionAnnotation) == "" || object.text(liveSynchronizationAnnotation) == "" {
		return Original{}, errUnstamped
	}
	o := Original{
		LiveSynchronization: object.text(liveSynchronizationAnnotation), SourceCluster: object.text(sourceClusterAnnotation),
		UID: object.text(sourceUIDAnnotation),
	}
	if o.Key, err = topology.ParseKey(object.text(keyAnnotation)); err != nil {
		return Original{}, err
	}
	if o.Version, err = topology.ParseVersion(object.text(versionAnnotation)); err != nil {
		return Original{}, err
	}
	if text := object.text(syncedAtAnnotation); text != "" {
		if o.SyncedAt, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return Original{}, fmt.Errorf("annotation %s: %w", syncedAtAnnotation, err)
		}
	}
	for name, m := range map[string]*map[string]string{
		namespaceLabelsAnnotation: &o.NamespaceLabels, namespaceAnnotationsAnnotation: &o.NamespaceAnnotations,
	} {
		if text := object.text(name); text != "" {
			if err := json.Unmarshal([]byte(text), m); err != nil {
				return Original{}, fmt.Errorf("annotation %s: %w", name, err)
			}
		}
	}
	if err := object.strip(); err != nil {
		return Original{}, err
	}
	o.Body = object.encode()
	return o, nil
}

// strip removes the control annotations and puts back what they displaced.
func (o *object) strip() error {
	displaced := o.text(originalAnnotationsAnnotation)
	for _, name := range controlAnnotations {
		delete(o.annotations, name)
	}
	switch displaced {
	case fieldMissing:
	case annotationsAbsent, "null":
		o.had = displaced
	default:
		var aside map[string]json.RawMessage
		if err := json.Unmarshal([]byte(displaced), &aside); err != nil {
			return fmt.Errorf("annotation %s: %w", originalAnnotationsAnnotation, err)
		}
		for name, raw := range aside {
			if !slices.Contains(controlAnnotations, name) {
				return fmt.Errorf("annotation %s: %q is no control annotation", originalAnnotationsAnnotation, name)
			}
			o.annotations[name] = raw
		}
	}
	return nil
}
