package manifest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// checker checks what no schema can: what needs another object.
type checker struct {
	allowExec bool

	// items by kind and name, those with errors included, so that whoever names
	// one of them is not told that it does not exist.
	items  map[string]map[types.NamespacedName]*item
	order  []*item
	broken map[*item]bool
	// incomplete: some document could not be read.
	incomplete bool

	access          map[types.NamespacedName]*access
	ensembles       map[types.NamespacedName]*ensemble.Options
	kubeconfigFiles []string
	content         bytes.Buffer
	errs            Errors
}

func newChecker(allowExec bool) *checker {
	return &checker{
		allowExec: allowExec,
		items:     map[string]map[types.NamespacedName]*item{},
		broken:    map[*item]bool{},
		access:    map[types.NamespacedName]*access{},
		ensembles: map[types.NamespacedName]*ensemble.Options{},
	}
}

// add takes a document in.
func (c *checker) add(d *document) {
	it, errs := read(d)
	c.errs = append(c.errs, errs...)
	if it == nil || it.key.Name == "" {
		return
	}
	byName := c.items[it.namedAs()]
	if byName == nil {
		byName = map[types.NamespacedName]*item{}
		c.items[it.namedAs()] = byName
	}
	if first, twice := byName[it.key]; twice {
		where := fmt.Sprintf("it is in %s, document %d already", first.file, first.index)
		if first.kind != it.kind {
			where = fmt.Sprintf("a %s of this name, which is another way to write a %s, is in %s, document %d", first.kind, it.kind, first.file, first.index)
		}
		c.errs = append(c.errs, it.errorAt("metadata.name", fmt.Sprintf("Duplicate value: %q: expected each %s once; %s", it.name, it.kind, where)))
		return
	}
	byName[it.key] = it
	c.broken[it] = len(errs) > 0
	c.order = append(c.order, it)
}

// finish checks what objects say of each other and returns the set. Where a file
// could not be read, references are not checked: what they name may be in there.
func (c *checker) finish(incomplete bool) *Set {
	c.incomplete = incomplete
	set := &Set{access: c.access, ensembles: c.ensembles}
	for _, it := range c.order {
		if c.broken[it] {
			continue
		}
		switch {
		case it.cluster != nil:
			a, errs := c.accessTo(it)
			c.errs = append(c.errs, errs...)
			if a != nil {
				c.access[it.key] = a
			}
		case it.bucket != nil:
			c.errs = append(c.errs, c.bucket(it)...)
		case it.database != nil:
			o, errs := c.ensembleOf(it)
			c.errs = append(c.errs, errs...)
			if o != nil {
				c.ensembles[it.key] = o
			}
		}
	}
	for _, it := range c.order {
		switch {
		case c.broken[it]:
		case it.recovery != nil:
			c.errs = append(c.errs, c.recovery(it)...)
		case it.plan != nil:
			c.errs = append(c.errs, it.fieldErrors(ValidatePlan(&it.plan.Spec))...)
			fallthrough
		case it.live != nil, it.run != nil:
			c.errs = append(c.errs, c.configuration(it, automationOf(it))...)
		}
	}
	c.errs = append(c.errs, c.shared()...)
	c.errs = append(c.errs, c.shareTrees()...)
	c.fill(set)
	return set
}

func (c *checker) fill(set *Set) {
	set.Secrets = map[types.NamespacedName]*corev1.Secret{}
	set.Clusters = map[types.NamespacedName]*v1alpha1.KubernetesCluster{}
	set.Buckets = map[types.NamespacedName]*v1alpha1.Bucket{}
	set.Databases = map[types.NamespacedName]*v1alpha1.Database{}
	for _, it := range c.order {
		switch {
		case it.secret != nil:
			set.Secrets[it.key] = it.secret
		case it.cluster != nil:
			set.Clusters[it.key] = it.cluster
		case it.bucket != nil:
			set.Buckets[it.key] = it.bucket
		case it.database != nil:
			set.Databases[it.key] = it.database
		case it.live != nil:
			set.LiveSynchronizations = append(set.LiveSynchronizations, it.live)
		case it.run != nil:
			set.Synchronizations = append(set.Synchronizations, it.run)
		case it.plan != nil:
			set.SynchronizationPlans = append(set.SynchronizationPlans, it.plan)
		case it.recovery != nil:
			set.Recoveries = append(set.Recoveries, it.recovery)
		}
		c.content.Write(it.json())
		c.content.WriteByte(0)
	}
	set.kubeconfigFiles = c.kubeconfigFiles
	set.content = c.content.String()
}

// missing says that a referenced object is not there, and which are.
func (c *checker) missing(kind string, key types.NamespacedName) string {
	var here, elsewhere []string
	for other := range c.items[kind] {
		if other.Namespace == key.Namespace {
			here = append(here, other.Name)
		} else if other.Name == key.Name {
			elsewhere = append(elsewhere, other.Namespace)
		}
	}
	slices.Sort(here)
	slices.Sort(elsewhere)
	out := fmt.Sprintf("Not found: %q: expected the name of a %s in namespace %s among the manifests", key.Name, kind, key.Namespace)
	switch {
	case len(elsewhere) > 0:
		return out + fmt.Sprintf("; there is one in namespace %s, which cannot be used from another", strings.Join(elsewhere, ", "))
	case len(here) > 0:
		return out + "; there is " + strings.Join(here, ", ")
	}
	return out + "; there is none"
}

// bucket checks the Secrets of a Bucket.
func (c *checker) bucket(it *item) Errors {
	spec := it.bucket.Spec
	at := "spec.generic.secretName"
	if spec.Generic.SecretName == "" {
		at = "spec.secretName"
	}
	errs := c.secretKeys(it, at, spec.CredentialsSecret(), v1alpha1.BucketAccessKeyIDKey, v1alpha1.BucketSecretAccessKeyKey)
	if ca := spec.Generic.CACertSecretName; ca != "" {
		errs = append(errs, c.secretKeys(it, "spec.generic.caCertSecretName", ca, v1alpha1.BucketCAKey)...)
	}
	return errs
}

func (c *checker) secretKeys(it *item, at, name string, keys ...string) Errors {
	holder, errs := c.secretFor(it, at, name)
	if holder == nil {
		return errs
	}
	for _, key := range keys {
		if len(holder.Data[key]) == 0 {
			errs = append(errs, it.errorAt(at, fmt.Sprintf("Secret %s lacks the key %s: expected the keys %s", name, key, strings.Join(keys, ", "))))
		}
	}
	return errs
}

// shared refuses a second LiveSynchronization for a cluster or bucket in one
// namespace: two would prune each other's objects. Those of ZooKeeper share no
// trees instead.
func (c *checker) shared() Errors {
	var errs Errors
	first := map[string]*item{} // by namespace and asset
	for _, it := range c.order {
		if it.live == nil || it.live.Spec.PluginName() != v1alpha1.PluginKubernetes {
			continue
		}
		config := it.live.Spec.Config
		for _, use := range [...]struct{ field, kind, name string }{
			{"sourceName", v1alpha1.KindKubernetesCluster, config.SourceName},
			{"destinationName", v1alpha1.KindKubernetesCluster, config.DestinationName},
			{"bucketName", v1alpha1.KindBucket, config.BucketName},
		} {
			if use.name == "" {
				continue
			}
			id := strings.Join([]string{it.key.Namespace, use.kind, c.identity(use.kind, types.NamespacedName{Namespace: it.key.Namespace, Name: use.name})}, "\x00")
			if other := first[id]; other != nil && other != it {
				errs = append(errs, it.errorAt("spec.config."+use.field, fmt.Sprintf(
					"%s %s is used by LiveSynchronization %s (%s) already: expected one LiveSynchronization per namespace for the same cluster or bucket; put both into one, or this one into another namespace",
					use.kind, use.name, other.name, other.file)))
				continue
			}
			first[id] = it
		}
	}
	return errs
}

// identity of an asset: equal for two names of the same cluster.
func (c *checker) identity(kind string, key types.NamespacedName) string {
	if kind == v1alpha1.KindKubernetesCluster {
		if a := c.access[key]; a != nil {
			return "address " + a.identity
		}
	}
	return "name " + key.Name
}

func names[V any](m map[string]V) string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
