package manifest

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// configuration checks what a LiveSynchronization, or a Recovery that has one
// inline, names and asks for. Both have it in spec.config.
func (c *checker) configuration(it *item, config v1alpha1.LiveSynchronizationConfig) Errors {
	var errs Errors
	for _, ref := range [...]struct{ field, kind, name string }{
		{"sourceName", v1alpha1.KindKubernetesCluster, config.SourceName},
		{"destinationName", v1alpha1.KindKubernetesCluster, config.DestinationName},
		{"bucketName", v1alpha1.KindBucket, config.BucketName},
	} {
		key := types.NamespacedName{Namespace: it.key.Namespace, Name: ref.name}
		if ref.name != "" && c.items[ref.kind][key] == nil && !c.incomplete {
			errs = append(errs, it.errorAt("spec.config."+ref.field, c.missing(ref.kind, key)))
		}
	}
	errs = append(errs, c.sameCluster(it, config)...)
	errs = append(errs, it.fieldErrors(ValidateConfig(&config, field.NewPath("spec", "config")))...)
	if len(errs) == 0 {
		// What is accepted here must also be accepted by those who compute with it.
		compute := topology.Config{Namespace: it.key.Namespace, Name: it.key.Name, Replication: config.Replication}
		if _, err := topology.Compile(compute); err != nil {
			errs = append(errs, it.errorAt("", err.Error()))
		}
		if _, err := topology.CompileRecovery(compute); err != nil {
			errs = append(errs, it.errorAt("", err.Error()))
		}
	}
	return errs
}

// sameCluster refuses two assets that are one cluster: its objects would be
// replicated onto themselves.
func (c *checker) sameCluster(it *item, config v1alpha1.LiveSynchronizationConfig) Errors {
	source := c.access[types.NamespacedName{Namespace: it.key.Namespace, Name: config.SourceName}]
	destination := c.access[types.NamespacedName{Namespace: it.key.Namespace, Name: config.DestinationName}]
	if source == nil || destination == nil || source.identity != destination.identity {
		return nil
	}
	return Errors{it.errorAt("spec.config.destinationName", fmt.Sprintf(
		"KubernetesCluster %s and KubernetesCluster %s (sourceName) lead to the same cluster, %s: expected two clusters", config.DestinationName, config.SourceName, destination.config.Host))}
}

// ValidateConfig checks what needs no other object and no schema can say: that
// patterns compile, label selectors are valid, and patch operations have what
// they need. The operator calls it too.
func ValidateConfig(config *v1alpha1.LiveSynchronizationConfig, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	resources := path.Child("replication", "resources")
	for i := range config.Replication.Resources {
		r, at := &config.Replication.Resources[i], resources.Index(i)
		if r.Filters != nil {
			errs = append(errs, validateFilters(r.Filters, at.Child("filters"))...)
		}
		if r.Transformation != nil {
			errs = append(errs, validatePatch(r.Transformation.Patch, at.Child("transformation", "patch"))...)
		}
		if r.RecoveryProcess != nil {
			errs = append(errs, validatePatch(r.RecoveryProcess.FromPatch, at.Child("recoveryProcess", "fromPatch"))...)
		}
	}
	return errs
}

func validateFilters(f *v1alpha1.Filters, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := f.NameSelector; n != nil {
		at := path.Child("nameSelector")
		for _, list := range [...]struct {
			name     string
			patterns []string
		}{{"regex", n.Regex}, {"includeRegex", n.IncludeRegex}, {"excludeRegex", n.ExcludeRegex}} {
			for i, pattern := range list.patterns {
				if err := validatePattern(pattern); err != nil {
					errs = append(errs, field.Invalid(at.Child(list.name).Index(i), pattern, err.Error()))
				}
			}
		}
	}
	for _, s := range [...]struct {
		name     string
		selector *metav1.LabelSelector
	}{{"selector", f.Selector}, {"namespaceSelector", f.NamespaceSelector}} {
		if s.selector != nil {
			found := metav1validation.ValidateLabelSelector(s.selector, metav1validation.LabelSelectorValidationOptions{}, path.Child(s.name))
			for _, e := range found {
				if e.Detail == "not a valid selector operator" {
					e.Detail += ": expected In, NotIn, Exists or DoesNotExist"
				}
			}
			errs = append(errs, found...)
		}
	}
	return errs
}

func validatePatch(patch []v1alpha1.PatchOperation, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, op := range patch {
		needsValue := op.Op == v1alpha1.PatchAdd || op.Op == v1alpha1.PatchReplace
		if _, ok := op.RawValue(); needsValue && !ok {
			errs = append(errs, field.Required(path.Index(i).Child("value"), "expected any JSON value for "+op.Op+"; 0, false, \"\" and null are values"))
		}
	}
	return errs
}

// durations checks the fields that hold a duration: the schema checks their
// form, but not that they are small enough for a time.Duration.
func (it *item) durations() Errors {
	if it.kind != v1alpha1.KindLiveSynchronization && it.kind != v1alpha1.KindRecovery {
		return nil
	}
	var errs Errors
	for _, path := range [...][]string{
		{"spec", "config", "resyncPeriod"},
		{"spec", "config", "replication", "resyncPeriod"},
		{"spec", "config", "observability", "interval"},
	} {
		s, ok, err := unstructured.NestedString(it.object, path...)
		if err != nil || !ok {
			continue
		}
		if _, err := time.ParseDuration(s); err != nil {
			errs = append(errs, it.errorAt(field.NewPath(path[0], path[1:]...).String(), fmt.Sprintf("Invalid value: %q: expected a duration of at most 292 years: %v", s, err)))
		}
	}
	return errs
}
