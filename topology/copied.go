package topology

import (
	"bytes"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// serverMetadata are the fields of metadata that an API server or its
// controllers assign. ownerReferences name owners by uid, and the garbage
// collector of the destination would delete copies whose owners it cannot find;
// finalizers wait for controllers that may not run there and would block deletes.
var serverMetadata = []string{
	"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
	"deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers",
}

// assigned is what only the cluster that holds an object of a resource may
// assign. (Learned from the restore item actions of Velero, and from the
// admission and strategy code of Kubernetes.)
type assigned struct {
	// fields are paths; "*" stands for every element of a list.
	fields [][]string
	// annotations and labels of the object itself.
	annotations, labels []string
	// sometimes are paths that more may remove, for patches that speak of them.
	sometimes [][]string
	// more is what depends on the rest of the object.
	more func(o *object, keepNodePorts bool) error
}

// jobLabels are made from the uid of a Job, in itself and in its pods.
var jobLabels = []string{"controller-uid", "batch.kubernetes.io/controller-uid"}

var assignedBy = map[schema.GroupResource]assigned{
	{Resource: "services"}: {
		sometimes: [][]string{
			{"spec", "clusterIP"}, {"spec", "clusterIPs"}, {"spec", "healthCheckNodePort"}, {"spec", "ports", "*", "nodePort"},
		},
		more: copyService,
	},
	{Resource: "persistentvolumeclaims"}: {
		// The volume and the node are the source's; the destination binds anew.
		fields: [][]string{{"spec", "volumeName"}},
		annotations: []string{
			"pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller",
			"volume.kubernetes.io/selected-node", "volume.kubernetes.io/storage-provisioner",
			"volume.beta.kubernetes.io/storage-provisioner",
		},
	},
	{Resource: "persistentvolumes"}: {
		// A claim is found again by its name; its uid there is another one.
		fields:      [][]string{{"spec", "claimRef", "uid"}, {"spec", "claimRef", "resourceVersion"}},
		annotations: []string{"pv.kubernetes.io/bound-by-controller"},
	},
	{Resource: "pods"}: {
		// The scheduler assigns the node, priority admission the priority (and
		// refuses another), and ephemeral containers cannot be created.
		fields: [][]string{{"spec", "nodeName"}, {"spec", "priority"}, {"spec", "preemptionPolicy"}, {"spec", "ephemeralContainers"}},
		more:   copyPod,
	},
	{Group: "batch", Resource: "jobs"}: {
		annotations: []string{"batch.kubernetes.io/job-tracking"},
		labels:      jobLabels,
		sometimes:   [][]string{{"spec", "selector"}},
		more:        copyJob,
	},
	{Resource: "serviceaccounts"}: {more: copyServiceAccount},
	{Resource: "secrets"}:         {more: copyTokenSecret},
	// The namespace controller sets spec.finalizers, its only field.
	{Resource: "namespaces"}: {fields: [][]string{{"spec", "finalizers"}}},
	// Each deployment controller counts its own ReplicaSets.
	{Group: "apps", Resource: "deployments"}: {annotations: []string{"deployment.kubernetes.io/revision"}},
	{Group: "apps", Resource: "replicasets"}: {annotations: []string{
		"deployment.kubernetes.io/revision", "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas",
	}},
	// The number of template changes, a generation in other words.
	{Group: "apps", Resource: "daemonsets"}: {annotations: []string{"deprecated.daemonset.template.generation"}},
	// The status, as autoscaling/v1 writes it.
	{Group: "autoscaling", Resource: "horizontalpodautoscalers"}: {annotations: []string{
		"autoscaling.alpha.kubernetes.io/conditions", "autoscaling.alpha.kubernetes.io/current-metrics",
	}},
	// The rules of an aggregated role are gathered by each cluster's controller.
	{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}: {more: copyClusterRole},
	{Resource: "endpoints"}:                                 {annotations: []string{"endpoints.kubernetes.io/last-change-trigger-time"}},
	{Group: "discovery.k8s.io", Resource: "endpointslices"}: {annotations: []string{"endpoints.kubernetes.io/last-change-trigger-time"}},
}

// Kept on purpose, although some tools drop them: the last-applied annotation of
// kubectl (a recovered cluster is applied to again), caBundles of webhooks and
// API services (they belong to the Service that is copied too), ipFamilies and
// loadBalancerIP of Services and storageClassName of claims (chosen by a person
// as often as by a default; a patch changes them).

// toCopied turns an object into what the destination must hold of it.
func (o *object) toCopied(key Key, keepNodePorts bool) error {
	delete(o.top, "status")
	for _, name := range serverMetadata {
		delete(o.meta, name)
	}
	rule := assignedBy[key.GVR().GroupResource()]
	for _, path := range rule.fields {
		if err := o.top.cut(path...); err != nil {
			return err
		}
	}
	if rule.more != nil {
		if err := rule.more(o, keepNodePorts); err != nil {
			return err
		}
	}
	if err := o.cutStrings("annotations", rule.annotations); err != nil {
		return err
	}
	return o.cutStrings("labels", rule.labels)
}

// cutStrings removes Afterimage's own marks and the given keys from
// metadata.labels or metadata.annotations. The map stays, even empty: a patch may
// add to it.
func (o *object) cutStrings(name string, keys []string) error {
	raw := o.meta[name]
	found := bytes.Contains(raw, []byte(`"`+MarkPrefix))
	for _, k := range keys {
		found = found || bytes.Contains(raw, []byte(`"`+k+`"`))
	}
	if !found {
		return nil
	}
	m, err := parseDoc(raw)
	if err != nil {
		return fmt.Errorf("metadata.%s: %w", name, err)
	}
	for k := range m {
		if IsMark(k) || slices.Contains(keys, k) {
			delete(m, k)
		}
	}
	o.meta[name] = m.encode()
	return nil
}
