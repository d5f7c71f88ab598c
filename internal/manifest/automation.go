package manifest

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// automation is what all kinds with a plugin and a config have in common.
type automation struct {
	namespace string
	plugin    string // by its one name
	config    *v1alpha1.LiveSynchronizationConfig
	path      *field.Path // of the config
}

// automationOf returns that of an item; nil where it has none, as a Recovery that
// names a LiveSynchronization.
func automationOf(it *item) *automation {
	a := &automation{namespace: it.key.Namespace, path: field.NewPath("spec", "config")}
	switch {
	case it.live != nil:
		a.plugin, a.config = it.live.Spec.PluginName(), &it.live.Spec.Config
	case it.run != nil:
		a.plugin, a.config = it.run.Spec.PluginName(), &it.run.Spec.Config
	case it.plan != nil:
		spec := &it.plan.Spec.Template.Spec
		a.plugin, a.config, a.path = spec.PluginName(), &spec.Config, field.NewPath("spec", "template", "spec", "config")
	case it.recovery != nil:
		config, inline := it.recovery.Spec.Config.Inline()
		if !inline {
			return nil
		}
		a.plugin, a.config = it.recovery.Spec.Plugin, &config
	default:
		return nil
	}
	return a
}

// configuration checks what an automation names and asks for.
func (c *checker) configuration(it *item, a *automation) Errors {
	if a.plugin == v1alpha1.PluginZooKeeper {
		return c.nodes(it, a)
	}
	return c.objects(it, a)
}

// objects checks a configuration of the plugin kubernetes-objects-to-kubernetes.
func (c *checker) objects(it *item, a *automation) Errors {
	config := a.config
	errs := c.references(it, a,
		reference{"sourceName", v1alpha1.KindKubernetesCluster, config.SourceName},
		reference{"destinationName", v1alpha1.KindKubernetesCluster, config.DestinationName},
		reference{"bucketName", v1alpha1.KindBucket, config.BucketName})
	errs = append(errs, c.sameCluster(it, a)...)
	errs = append(errs, it.fieldErrors(ValidateConfig(config, a.path))...)
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

// reference is a field that names another object.
type reference struct{ field, kind, name string }

// references checks that what is named is there.
func (c *checker) references(it *item, a *automation, refs ...reference) Errors {
	var errs Errors
	for _, ref := range refs {
		key := a.asset(ref.name)
		if ref.name == "" || c.items[ref.kind][key] != nil || c.incomplete {
			continue
		}
		detail := c.missing(ref.kind, key)
		if other := c.otherKind(ref.kind); c.items[other][key] != nil {
			detail = fmt.Sprintf("Invalid value: %q: it is a %s: expected the name of a %s, which is what the plugin %s takes", ref.name, other, ref.kind, a.plugin)
		}
		errs = append(errs, it.errorAt(a.path.Child(ref.field).String(), detail))
	}
	return errs
}

// otherKind is what a source or destination of the other plugin is.
func (c *checker) otherKind(kind string) string {
	switch kind {
	case v1alpha1.KindDatabase:
		return v1alpha1.KindKubernetesCluster
	case v1alpha1.KindKubernetesCluster:
		return v1alpha1.KindDatabase
	}
	return ""
}

// sameCluster refuses two assets that are one cluster: its objects would be
// replicated onto themselves.
func (c *checker) sameCluster(it *item, a *automation) Errors {
	source, destination := c.access[a.asset(a.config.SourceName)], c.access[a.asset(a.config.DestinationName)]
	if source == nil || destination == nil || source.identity != destination.identity {
		return nil
	}
	return Errors{it.errorAt(a.path.Child("destinationName").String(), fmt.Sprintf(
		"KubernetesCluster %s and KubernetesCluster %s (sourceName) lead to the same cluster, %s: expected two clusters", a.config.DestinationName, a.config.SourceName, destination.config.Host))}
}
