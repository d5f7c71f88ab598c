package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/internal/schedule"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// ValidatePlan checks what no schema can say of a plan: that its schedule has a
// next time, and that its Synchronizations can have the metadata of the template.
// The operator calls it too.
func ValidatePlan(plan *v1alpha1.SynchronizationPlanSpec) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	switch _, err := schedule.Parse(plan.Schedule, plan.TimeZone); {
	case errors.Is(err, schedule.ErrZone):
		errs = append(errs, field.Invalid(at.Child("timeZone"), plan.TimeZone, err.Error()))
	case err != nil:
		errs = append(errs, field.Invalid(at.Child("schedule"), plan.Schedule, err.Error()))
	}
	metadata := at.Child("template", "metadata")
	errs = append(errs, metav1validation.ValidateLabels(plan.Template.Metadata.Labels, metadata.Child("labels"))...)
	return append(errs, apivalidation.ValidateAnnotations(plan.Template.Metadata.Annotations, metadata.Child("annotations"))...)
}

// generatedNameLength is how many hexadecimal digits make a generated name: two
// manifests of one prefix get the same name once in 10^12.
const generatedNameLength = 10

// generateName gives a Synchronization that has only a generateName the name that
// its content gives it: who reads the same manifest again, after a restart say,
// finds the run that was made of it.
func generateName(d *document) *Error {
	metadata, _ := d.object["metadata"].(map[string]any)
	prefix, _ := metadata["generateName"].(string)
	if d.kind != v1alpha1.KindSynchronization || d.name != "" || prefix == "" {
		return nil
	}
	if wrong := apivalidation.NameIsDNSSubdomain(prefix, true); len(wrong) > 0 {
		return d.errorAt("metadata.generateName", fmt.Sprintf("Invalid value: %q: %s", prefix, wrong[0]))
	}
	sum := sha256.Sum256(d.json())
	d.name = fmt.Sprintf("%s%s", prefix, hex.EncodeToString(sum[:])[:generatedNameLength])
	metadata["name"] = d.name
	return nil
}
