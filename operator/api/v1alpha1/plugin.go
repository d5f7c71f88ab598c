package v1alpha1

// The plugins, each a source side, a destination side and the rules between them.
const (
	// PluginKubernetes replicates Kubernetes objects to another cluster.
	PluginKubernetes = "kubernetes-objects-to-kubernetes"
	// PluginZooKeeper replicates the nodes of a ZooKeeper ensemble to another one.
	PluginZooKeeper = "zookeeper-to-zookeeper-nodes"
	// pluginZooKeeperAlias is accepted for PluginZooKeeper.
	pluginZooKeeperAlias = "zookeeper-nodes-to-zookeeper"
)

// PluginName is the plugin by its one name, also where an alias was written.
func (s *LiveSynchronizationSpec) PluginName() string { return canonicalPlugin(s.Plugin) }

// PluginName is the plugin by its one name, also where an alias was written.
func (s *SynchronizationSpec) PluginName() string { return canonicalPlugin(s.Plugin) }

func canonicalPlugin(name string) string {
	if name == pluginZooKeeperAlias {
		return PluginZooKeeper
	}
	return name
}

// PluginRules is inlined beside plugin and config. It has no fields: it carries
// the rules between those two, so that every kind that has both has the same.
//
// +kubebuilder:validation:XValidation:rule="!self.config.sourceName.contains('/')",fieldPath=".config.sourceName",messageExpression="'must be the name of a ' + (self.plugin == 'kubernetes-objects-to-kubernetes' ? 'KubernetesCluster' : 'Database') + ' in the namespace of the LiveSynchronization or Synchronization; a name with / is not accepted'"
// +kubebuilder:validation:XValidation:rule="!self.config.destinationName.contains('/')",fieldPath=".config.destinationName",messageExpression="'must be the name of a ' + (self.plugin == 'kubernetes-objects-to-kubernetes' ? 'KubernetesCluster' : 'Database') + ' in the namespace of the LiveSynchronization or Synchronization; a name with / is not accepted'"
// +kubebuilder:validation:XValidation:rule="self.config.sourceName != self.config.destinationName",fieldPath=".config.destinationName",messageExpression="'must name another ' + (self.plugin == 'kubernetes-objects-to-kubernetes' ? 'KubernetesCluster' : 'Database') + ' than sourceName'"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || has(self.config.replication)",fieldPath=".config.replication",reason=FieldValueRequired,message="expected a mapping (Replication says which objects are replicated, and how)"
// +kubebuilder:validation:XValidation:rule="!has(self.config.replication) || has(self.config.bucketName) || !self.config.replication.resources.exists(r, has(r.recoveryProcess) && has(r.recoveryProcess.fromOriginal) && has(r.recoveryProcess.fromOriginal.enabled) && r.recoveryProcess.fromOriginal.enabled)",fieldPath=".config.bucketName",reason=FieldValueRequired,message="must name the Bucket that recoveryProcess.fromOriginal restores from"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || !has(self.config.rootPath)",fieldPath=".config.rootPath",reason=FieldValueForbidden,message="belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || !has(self.config.createRootPath)",fieldPath=".config.createRootPath",reason=FieldValueForbidden,message="belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || !has(self.config.createRoutePath)",fieldPath=".config.createRoutePath",reason=FieldValueForbidden,message="belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || !has(self.config.ignoreEphemeral)",fieldPath=".config.ignoreEphemeral",reason=FieldValueForbidden,message="belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || !has(self.config.excludePathRegexp)",fieldPath=".config.excludePathRegexp",reason=FieldValueForbidden,message="belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication with filters"
// +kubebuilder:validation:XValidation:rule="self.plugin != 'kubernetes-objects-to-kubernetes' || !has(self.config.copyACL)",fieldPath=".config.copyACL",reason=FieldValueForbidden,message="belongs to the plugin zookeeper-to-zookeeper-nodes; kubernetes-objects-to-kubernetes takes replication"
// +kubebuilder:validation:XValidation:rule="self.plugin == 'kubernetes-objects-to-kubernetes' || has(self.config.rootPath)",fieldPath=".config.rootPath",reason=FieldValueRequired,message="expected the absolute path of the tree to synchronize, such as /app/config"
// +kubebuilder:validation:XValidation:rule="self.plugin == 'kubernetes-objects-to-kubernetes' || !has(self.config.replication)",fieldPath=".config.replication",reason=FieldValueForbidden,message="belongs to the plugin kubernetes-objects-to-kubernetes; zookeeper-to-zookeeper-nodes takes rootPath"
// +kubebuilder:validation:XValidation:rule="self.plugin == 'kubernetes-objects-to-kubernetes' || !has(self.config.bucketName)",fieldPath=".config.bucketName",reason=FieldValueForbidden,message="belongs to the plugin kubernetes-objects-to-kubernetes; zookeeper-to-zookeeper-nodes stores nothing in a bucket"
type PluginRules struct{}
