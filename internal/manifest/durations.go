package manifest

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// inConfig are the fields of a configuration that hold a duration.
var inConfig = []string{"resyncPeriod", "replication.resyncPeriod", "observability.interval"}

// durationsOf are the fields of each kind that hold a duration.
var durationsOf = map[string][]string{
	v1alpha1.KindDatabase:            {"spec.zookeeper.sessionTimeout"},
	v1alpha1.KindZookeeper:           {"spec.sessionTimeout"},
	v1alpha1.KindLiveSynchronization: below("spec.config.", inConfig),
	v1alpha1.KindSynchronization:     below("spec.config.", inConfig),
	v1alpha1.KindSynchronizationPlan: below("spec.template.spec.config.", inConfig),
	v1alpha1.KindRecovery:            below("spec.config.", inConfig),
}

func below(prefix string, paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = prefix + p
	}
	return out
}

// durations checks the fields that hold a duration: the schema checks their
// form, but not that they are small enough for a time.Duration.
func (it *item) durations() Errors {
	var errs Errors
	for _, path := range durationsOf[it.kind] {
		s, ok, err := unstructured.NestedString(it.object, strings.Split(path, ".")...)
		if err != nil || !ok {
			continue
		}
		if _, err := time.ParseDuration(s); err != nil {
			errs = append(errs, it.errorAt(path, fmt.Sprintf("Invalid value: %q: expected a duration of at most 292 years: %v", s, err)))
		}
	}
	return errs
}
