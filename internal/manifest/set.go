package manifest

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// DefaultResyncPeriod is how often everything is compared when nobody says.
const DefaultResyncPeriod = time.Hour

// The components whose concurrency can be set, and their defaults: reading is
// bound by the source's own pages and watches, computing by our CPU, and writing
// by round trips to the destination, of which 32 at a time come near to what one
// API server can take.
var concurrentTasks = map[string]int{
	"eventslistener": 8,
	"processor":      4,
	"synchronizer":   32,
	"reconciler":     4,
}

// archiverTasks is how many originals are stored at a time where processor, whose
// sibling the archiver is, has no number of its own: most of an upload is waiting.
const archiverTasks = 32

// Annotations of a LiveSynchronization that are read here.
const (
	lastUpdateTime     = "audit.astronetes.io/last-update-time"
	lastUpdateUserUID  = "audit.astronetes.io/last-update-user-uid"
	lastUpdateUsername = "audit.astronetes.io/last-update-username"
	confirmPrune       = topology.MarkPrefix + "confirm-prune"
	confirmSource      = topology.MarkPrefix + "confirm-source"
	resume             = topology.MarkPrefix + "resume"
)

// Set is what a set of manifests says, complete and valid. Do not change it.
type Set struct {
	Secrets  map[types.NamespacedName]*corev1.Secret
	Clusters map[types.NamespacedName]*v1alpha1.KubernetesCluster
	Buckets  map[types.NamespacedName]*v1alpha1.Bucket
	// Databases, those that were written as a Zookeeper included.
	Databases map[types.NamespacedName]*v1alpha1.Database
	// LiveSynchronizations in the order of the manifests, as all that follow: there
	// is at least one item in these four.
	LiveSynchronizations []*v1alpha1.LiveSynchronization
	// Synchronizations, each with a name: that of one with a generateName is made
	// of its content.
	Synchronizations []*v1alpha1.Synchronization
	// SynchronizationPlans in the order of the manifests.
	SynchronizationPlans []*v1alpha1.SynchronizationPlan
	// Recoveries in the order of the manifests.
	Recoveries []*v1alpha1.Recovery

	access    map[types.NamespacedName]*access
	ensembles map[types.NamespacedName]*ensemble.Options
	// content tells whether two sets say the same.
	content string
	// kubeconfigFiles are read besides the manifests.
	kubeconfigFiles []string
}

// Source is the cluster a LiveSynchronization reads from.
func (s *Set) Source(ls *v1alpha1.LiveSynchronization) *v1alpha1.KubernetesCluster {
	return s.Clusters[types.NamespacedName{Namespace: ls.Namespace, Name: ls.Spec.Config.SourceName}]
}

// Destination is the cluster a LiveSynchronization writes to.
func (s *Set) Destination(ls *v1alpha1.LiveSynchronization) *v1alpha1.KubernetesCluster {
	return s.Clusters[types.NamespacedName{Namespace: ls.Namespace, Name: ls.Spec.Config.DestinationName}]
}

// Bucket is where the originals of a LiveSynchronization are kept; nil: nowhere.
func (s *Set) Bucket(ls *v1alpha1.LiveSynchronization) *v1alpha1.Bucket {
	return s.Buckets[types.NamespacedName{Namespace: ls.Namespace, Name: ls.Spec.Config.BucketName}]
}

// Database of that name, also one that was written as a Zookeeper; nil: there is
// none.
func (s *Set) Database(namespace, name string) *v1alpha1.Database {
	return s.Databases[types.NamespacedName{Namespace: namespace, Name: name}]
}

// EnsembleOptions returns how to reach a Database of the set, with the credentials
// of its Secrets: a copy that may be changed. It is empty for a Database that is
// not of the set, and for nil.
func (s *Set) EnsembleOptions(db *v1alpha1.Database) ensemble.Options {
	if db == nil {
		return ensemble.Options{}
	}
	prepared := s.ensembles[types.NamespacedName{Namespace: db.Namespace, Name: db.Name}]
	if prepared == nil {
		return ensemble.Options{}
	}
	o := *prepared
	o.Servers, o.TLS = slices.Clone(o.Servers), o.TLS.Clone()
	return o
}

// BucketOptions returns how to reach a Bucket of the set, with the credentials of
// its Secrets; nil for nil.
func (s *Set) BucketOptions(b *v1alpha1.Bucket) *bucket.Options {
	if b == nil {
		return nil
	}
	g := b.Spec.Generic
	secret := func(name, key string) []byte {
		if secret := s.Secrets[types.NamespacedName{Namespace: b.Namespace, Name: name}]; secret != nil {
			return secret.Data[key]
		}
		return nil
	}
	o := &bucket.Options{
		Endpoint: g.Endpoint, Name: g.Name, UseSSL: g.UseSSL, Region: g.Region, Prefix: g.Prefix, PathStyle: g.PathStyle,
		InsecureSkipVerify: g.InsecureSkipVerify,
		// No key has space around it, and many files end with a newline.
		AccessKeyID:     string(bytes.TrimSpace(secret(b.Spec.CredentialsSecret(), v1alpha1.BucketAccessKeyIDKey))),
		SecretAccessKey: string(bytes.TrimSpace(secret(b.Spec.CredentialsSecret(), v1alpha1.BucketSecretAccessKeyKey))),
	}
	if g.CACertSecretName != "" {
		o.CA = secret(g.CACertSecretName, v1alpha1.BucketCAKey)
	}
	return o
}

// RESTConfig returns how to reach a cluster of the set: a copy that may be
// changed. QPS is -1 where the manifest sets none, which leaves pacing to the
// API server. An error means only that the cluster is not of this set.
func (s *Set) RESTConfig(cluster *v1alpha1.KubernetesCluster) (*rest.Config, error) {
	if cluster == nil {
		return nil, fmt.Errorf("no cluster given")
	}
	a, ok := s.access[types.NamespacedName{Namespace: cluster.Namespace, Name: cluster.Name}]
	if !ok {
		return nil, fmt.Errorf("cluster %s/%s is not in the manifests", cluster.Namespace, cluster.Name)
	}
	return rest.CopyConfig(a.config), nil
}

// SettingsFor returns what the components of a LiveSynchronization are told,
// with every default filled in.
func (s *Set) SettingsFor(ls *v1alpha1.LiveSynchronization) settings.Settings {
	c := ls.Spec.Config
	out := settings.Settings{
		Config:             topology.Config{Namespace: ls.Namespace, Name: ls.Name, Replication: *c.Replication.DeepCopy()},
		Suspend:            ls.Spec.Suspend,
		ResyncPeriod:       resyncPeriod(c),
		ConcurrentTasks:    map[string]int{},
		Source:             asset(s.Source(ls)),
		Destination:        asset(s.Destination(ls)),
		Bucket:             asset(s.Bucket(ls)),
		LastUpdateTime:     ls.Annotations[lastUpdateTime],
		LastUpdateUserUID:  ls.Annotations[lastUpdateUserUID],
		LastUpdateUsername: ls.Annotations[lastUpdateUsername],
		ConfirmPrune:       ls.Annotations[confirmPrune],
		ConfirmSource:      ls.Annotations[confirmSource],
		Resume:             ls.Annotations[resume],
	}
	if ls.Spec.PluginName() == v1alpha1.PluginZooKeeper {
		out.Source, out.Destination = asset(s.Database(ls.Namespace, c.SourceName)), asset(s.Database(ls.Namespace, c.DestinationName))
	}
	components := map[string]*v1alpha1.Component{
		"eventslistener": c.Components.EventsListener,
		"processor":      c.Components.Processor,
		"synchronizer":   c.Components.Synchronizer,
		"reconciler":     c.Components.Reconciler,
	}
	for name, n := range concurrentTasks {
		if comp := components[name]; comp != nil && comp.ConcurrentTasks != nil {
			n = int(*comp.ConcurrentTasks)
		}
		out.ConcurrentTasks[name] = n
	}
	out.ConcurrentTasks["archiver"] = archiverTasks
	if p := c.Components.Processor; p != nil && p.ConcurrentTasks != nil {
		out.ConcurrentTasks["archiver"] = int(*p.ConcurrentTasks)
	}
	return out
}

// resyncPeriod: the one in replication wins over the one beside it.
func resyncPeriod(c v1alpha1.LiveSynchronizationConfig) time.Duration {
	for _, d := range [...]*metav1.Duration{c.Replication.ResyncPeriod, c.ResyncPeriod} {
		if d != nil {
			return d.Duration
		}
	}
	return DefaultResyncPeriod
}

// asset identifies one in logs; empty for nil.
func asset[T interface {
	comparable
	metav1.Object
}](o T) settings.Asset {
	var none T
	if o == none {
		return settings.Asset{}
	}
	return settings.Asset{Name: o.GetName(), Namespace: o.GetNamespace(), ResourceVersion: o.GetResourceVersion(), UID: string(o.GetUID())}
}
