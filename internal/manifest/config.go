package manifest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// ValidateConfig checks what needs no other object and no schema can say: that
// patterns compile, label selectors are valid, and patch operations have what
// they need. The operator calls it too.
func ValidateConfig(config *v1alpha1.LiveSynchronizationConfig, path *field.Path) field.ErrorList {
	errs := validateNodes(config, path)
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
