package topology

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestCopied(t *testing.T) {
	cases := map[string]struct {
		reason, key, more string
		in, want          string
	}{
		"metadata": {
			"what the server and its controllers assign stays behind", "core/v1/configmaps/ns/a", "",
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"ns","uid":"u","resourceVersion":"5","generation":2,"creationTimestamp":"2026-01-01T00:00:00Z","managedFields":[{}],"selfLink":"/x","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0,"ownerReferences":[{"uid":"o"}],"finalizers":["x/y"],"generateName":"a-","labels":{"l":"1"},"annotations":{"a":"1"}},"data":{"k":"v"},"binaryData":{"b":"AA=="},"immutable":true,"status":{"x":1}}`,
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"ns","generateName":"a-","labels":{"l":"1"},"annotations":{"a":"1"}},"data":{"k":"v"},"binaryData":{"b":"AA=="},"immutable":true}`,
		},
		"own marks": {
			"a copy of a copy is no copy of its marks", "core/v1/configmaps/ns/a", "",
			`{"metadata":{"name":"a","labels":{"afterimage.io/owner":"h","l":"1"},"annotations":{"afterimage.io/live-synchronization":"x/y","afterimage.io/source-cluster":"third","afterimage.io/version":"1","k":"v"}}}`,
			`{"metadata":{"name":"a","labels":{"l":"1"},"annotations":{"k":"v"}}}`,
		},
		"emptied maps stay": {
			"a patch may add to them", "core/v1/configmaps/ns/a", "",
			`{"metadata":{"name":"a","annotations":{"afterimage.io/ignore":"false"}}}`,
			`{"metadata":{"name":"a","annotations":{}}}`,
		},
		"last applied": {
			"a recovered cluster is applied to again", "core/v1/configmaps/ns/a", "",
			`{"metadata":{"name":"a","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}\n"}}}`,
			`{"metadata":{"name":"a","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}\n"}}}`,
		},
		"service": {
			"a cluster allocates its own addresses and ports", "core/v1/services/ns/a", "",
			`{"metadata":{"name":"a"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","healthCheckNodePort":31000,"loadBalancerIP":"1.2.3.4","ports":[{"name":"a","port":80,"nodePort":30080},{"name":"b","port":81}]},"status":{"loadBalancer":{}}}`,
			`{"metadata":{"name":"a"},"spec":{"type":"LoadBalancer","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","loadBalancerIP":"1.2.3.4","ports":[{"name":"a","port":80},{"name":"b","port":81}]}}`,
		},
		"service, ports kept": {
			"the switch", "core/v1/services/ns/a", `"keepNodePorts":true,`,
			`{"metadata":{"name":"a"},"spec":{"clusterIP":"10.0.0.1","healthCheckNodePort":31000,"ports":[{"port":80,"nodePort":30080}]}}`,
			`{"metadata":{"name":"a"},"spec":{"healthCheckNodePort":31000,"ports":[{"port":80,"nodePort":30080}]}}`,
		},
		"headless": {
			"None is no address", "core/v1/services/ns/a", "",
			`{"metadata":{"name":"a"},"spec":{"clusterIP":"None","clusterIPs":["None"]}}`,
			`{"metadata":{"name":"a"},"spec":{"clusterIP":"None","clusterIPs":["None"]}}`,
		},
		"no spec": {"", "core/v1/services/ns/a", "", `{"metadata":{"name":"a"}}`, `{"metadata":{"name":"a"}}`},
		"claim": {
			"the destination binds anew", "core/v1/persistentvolumeclaims/ns/a", "",
			`{"metadata":{"name":"a","annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes","volume.kubernetes.io/selected-node":"n","volume.beta.kubernetes.io/storage-provisioner":"p","volume.kubernetes.io/storage-provisioner":"p","mine":"1"}},"spec":{"volumeName":"pv-1","storageClassName":"fast","resources":{"requests":{"storage":"1Gi"}}},"status":{"phase":"Bound"}}`,
			`{"metadata":{"name":"a","annotations":{"mine":"1"}},"spec":{"storageClassName":"fast","resources":{"requests":{"storage":"1Gi"}}}}`,
		},
		"volume": {
			"a claim is found by its name", "core/v1/persistentvolumes//a", "",
			`{"metadata":{"name":"a","annotations":{"pv.kubernetes.io/bound-by-controller":"yes","pv.kubernetes.io/provisioned-by":"p"}},"spec":{"claimRef":{"kind":"PersistentVolumeClaim","name":"c","namespace":"ns","uid":"u","resourceVersion":"5"},"capacity":{"storage":"1Gi"}}}`,
			`{"metadata":{"name":"a","annotations":{"pv.kubernetes.io/provisioned-by":"p"}},"spec":{"claimRef":{"kind":"PersistentVolumeClaim","name":"c","namespace":"ns"},"capacity":{"storage":"1Gi"}}}`,
		},
		"pod": {
			"the node, the priority and the token are the destination's to give", "core/v1/pods/ns/a", "",
			`{"metadata":{"name":"a"},"spec":{"nodeName":"n1","priority":0,"preemptionPolicy":"PreemptLowerPriority","serviceAccountName":"sa","ephemeralContainers":[{"name":"debug"}],"volumes":[{"name":"kube-api-access-x7x"},{"name":"sa-token-abcde"},{"name":"data","emptyDir":{}}],"containers":[{"name":"c","volumeMounts":[{"name":"kube-api-access-x7x","mountPath":"/var"},{"name":"data","mountPath":"/data"}]},{"name":"d"}],"initContainers":[{"name":"i","volumeMounts":[{"name":"sa-token-abcde"}]}]}}`,
			`{"metadata":{"name":"a"},"spec":{"serviceAccountName":"sa","volumes":[{"name":"data","emptyDir":{}}],"containers":[{"name":"c","volumeMounts":[{"name":"data","mountPath":"/data"}]},{"name":"d"}],"initContainers":[{"name":"i","volumeMounts":[]}]}}`,
		},
		"job": {
			"the selector is made from the uid", "batch/v1/jobs/ns/a", "",
			`{"metadata":{"name":"a","labels":{"controller-uid":"u","batch.kubernetes.io/controller-uid":"u","mine":"1"},"annotations":{"batch.kubernetes.io/job-tracking":""}},"spec":{"selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"u"}},"template":{"metadata":{"labels":{"controller-uid":"u","batch.kubernetes.io/controller-uid":"u","job-name":"a"}},"spec":{"x":1}},"suspend":false}}`,
			`{"metadata":{"name":"a","labels":{"mine":"1"},"annotations":{}},"spec":{"template":{"metadata":{"labels":{"job-name":"a"}},"spec":{"x":1}},"suspend":false}}`,
		},
		"job with its own selector": {
			"the user chose it", "batch/v1/jobs/ns/a", "",
			`{"metadata":{"name":"a"},"spec":{"manualSelector":true,"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}}}}}`,
			`{"metadata":{"name":"a"},"spec":{"manualSelector":true,"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}}}}}`,
		},
		"service account": {
			"its secrets are each cluster's", "core/v1/serviceaccounts/ns/sa", "",
			`{"metadata":{"name":"sa"},"secrets":[{"name":"sa-token-abcde"},{"name":"sa-dockercfg-x"},{"name":"mine"}],"imagePullSecrets":[{"name":"sa-dockercfg-x"},{"name":"registry"}]}`,
			`{"metadata":{"name":"sa"},"secrets":[{"name":"mine"}],"imagePullSecrets":[{"name":"registry"}]}`,
		},
		"token secret": {
			"the token speaks for the source", "core/v1/secrets/ns/a", `"includeGenerated":true,`,
			`{"metadata":{"name":"a","annotations":{"kubernetes.io/service-account.name":"sa","kubernetes.io/service-account.uid":"u"}},"type":"kubernetes.io/service-account-token","data":{"token":"dA==","ca.crt":"YQ==","namespace":"bnM=","extra":"eA=="}}`,
			`{"metadata":{"name":"a","annotations":{"kubernetes.io/service-account.name":"sa"}},"type":"kubernetes.io/service-account-token","data":{"extra":"eA=="}}`,
		},
		"other secret": {
			"is the user's", "core/v1/secrets/ns/a", "",
			`{"metadata":{"name":"a"},"type":"Opaque","data":{"token":"dA=="}}`, `{"metadata":{"name":"a"},"type":"Opaque","data":{"token":"dA=="}}`,
		},
		"namespace": {
			"its finalizer is the namespace controller's", "core/v1/namespaces//a", "",
			`{"metadata":{"name":"a","labels":{"l":"1"}},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}`, `{"metadata":{"name":"a","labels":{"l":"1"}},"spec":{}}`,
		},
		"deployment": {
			"each controller counts its own", "apps/v1/deployments/ns/a", "",
			`{"metadata":{"name":"a","annotations":{"deployment.kubernetes.io/revision":"3","k":"v"}},"spec":{"replicas":1},"status":{}}`, `{"metadata":{"name":"a","annotations":{"k":"v"}},"spec":{"replicas":1}}`,
		},
		"aggregated role": {
			"its rules are gathered by each cluster", "rbac.authorization.k8s.io/v1/clusterroles//a", "",
			`{"metadata":{"name":"a"},"aggregationRule":{"clusterRoleSelectors":[{}]},"rules":[{"verbs":["get"]}]}`, `{"metadata":{"name":"a"},"aggregationRule":{"clusterRoleSelectors":[{}]}}`,
		},
		"role": {
			"these rules are the user's", "rbac.authorization.k8s.io/v1/clusterroles//a", "",
			`{"metadata":{"name":"a"},"rules":[{"verbs":["get"]}]}`, `{"metadata":{"name":"a"},"rules":[{"verbs":["get"]}]}`,
		},
		"webhooks": {
			"the caBundle belongs to the Service that is copied too", "admissionregistration.k8s.io/v1/validatingwebhookconfigurations//a", "",
			`{"metadata":{"name":"a","generation":1},"webhooks":[{"clientConfig":{"caBundle":"QQ=="}}]}`, `{"metadata":{"name":"a"},"webhooks":[{"clientConfig":{"caBundle":"QQ=="}}]}`,
		},
		"a custom kind of that name": {
			"the rules are for the core group's", "example.io/v1/services/ns/a", "",
			`{"metadata":{"name":"a"},"spec":{"clusterIP":"x","nodeName":"y"}}`, `{"metadata":{"name":"a"},"spec":{"clusterIP":"x","nodeName":"y"}}`,
		},
		"numbers and markup": {
			"bytes travel as they are", "core/v1/configmaps/ns/a", "",
			`{"metadata":{"name":"a"},"data":{"k":"<&>é\u2028"},"n":9007199254740993123,"f":1.0}`, `{"metadata":{"name":"a"},"data":{"k":"<&>é\u2028"},"n":9007199254740993123,"f":1.0}`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			key, err := ParseKey(tc.key)
			if err != nil {
				t.Fatal(err)
			}
			r := compile(t, fmt.Sprintf(`{%s"resources":[{"group":%q,"version":%q,"resource":%q}]}`, tc.more, key.Group, key.Version, key.Resource))
			got := r.Apply(record(tc.key, tc.in))
			if got.Err != nil || !got.InScope || !sameJSON(t, got.Body, []byte(tc.want)) {
				t.Errorf("%s: %+v\n got %s\nwant %s", tc.reason, got, got.Body, tc.want)
			}
			again := r.Apply(record(tc.key, string(got.Body)))
			if again.Hash != got.Hash {
				t.Errorf("the copied form of the copied form differs: %s", again.Body)
			}
		})
	}
}

func TestCopiedBytes(t *testing.T) {
	r := compile(t, onlyConfigMaps)
	got := r.Apply(record("core/v1/configmaps/ns/a", `{"data":{"b":"<&>","a":"1"},"kind":"ConfigMap","metadata":{"uid":"u","name":"a"},"apiVersion":"v1"}`))
	if want := `{"apiVersion":"v1","data":{"b":"<&>","a":"1"},"kind":"ConfigMap","metadata":{"name":"a"}}`; string(got.Body) != want {
		t.Errorf("got %s\nwant %s", got.Body, want)
	}
}

func TestWhatIsNoObjectIsHeld(t *testing.T) {
	r := compile(t, `{"resources":[{"version":"v1","resource":"services"}]}`)
	for _, body := range []string{``, `x`, `[]`, `null`, `{}`, `{"metadata":null}`, `{"metadata":[]}`, `{"metadata":{"name":"a"},"spec":[]}`, `{"metadata":{"name":"a"},"spec":{"ports":{"nodePort":1}}}`, `{"metadata":{"name":"a","annotations":["afterimage.io/owner"]}}`} {
		rec := record("core/v1/services/ns/a", body)
		if got := r.Apply(rec); got.Err == nil || !got.InScope {
			t.Errorf("%q: %+v: it must be held, not deleted", body, got)
		}
	}
}

func TestAssignedTableIsSound(t *testing.T) {
	for resource, rule := range assignedBy {
		if strings.Contains(resource.Resource, "/") || resource.Resource != strings.ToLower(resource.Resource) {
			t.Errorf("%v is no plural", resource)
		}
		if rule.fields == nil && rule.annotations == nil && rule.labels == nil && rule.more == nil {
			t.Errorf("%v has no rule", resource)
		}
		for _, f := range rule.fields {
			if copies(resource, "/"+strings.Join(f, "/")) != never {
				t.Errorf("%v: a patch does not know that %v is not copied", resource, f)
			}
		}
	}
	if copies(schema.GroupResource{Resource: "services"}, "/spec/ports/3/nodePort") != sometimes {
		t.Error("a patch does not know that node ports may not be copied")
	}
}

func FuzzCopied(f *testing.F) {
	f.Add("core/v1/services/ns/a", `{"metadata":{"name":"a"},"spec":{"ports":[{"nodePort":1}],"clusterIP":"x"}}`)
	f.Add("core/v1/pods/ns/a", `{"metadata":{"name":"a"},"spec":{"serviceAccountName":"s","volumes":[{"name":"s-token-x"}],"containers":[{"volumeMounts":[]}]}}`)
	f.Add("batch/v1/jobs/ns/a", `{"metadata":{"name":"a","labels":{"controller-uid":"u"}},"spec":{"template":{"metadata":{"labels":{"controller-uid":"u"}}}}}`)
	f.Add("core/v1/secrets/ns/a", `{"metadata":{"name":"a"},"type":"kubernetes.io/service-account-token","data":{"token":""}}`)
	f.Fuzz(func(t *testing.T, name, body string) {
		key, err := ParseKey(name)
		if err != nil {
			return
		}
		r := compile(t, `{"includeGenerated":true,"includeControlled":true,"includeSystemNamespaces":true,"resources":[{"version":"v1","resource":"services"},{"version":"v1","resource":"pods"},{"group":"batch","version":"v1","resource":"jobs"},{"version":"v1","resource":"secrets"}]}`)
		one := r.Apply(record(name, body))
		if !one.InScope || one.Err != nil || !r.Covers(key) {
			return
		}
		two := r.Apply(record(name, string(one.Body)))
		if two.Err != nil || two.Hash != one.Hash {
			t.Errorf("copying %q gives %q, and copying that %q (%v)", body, one.Body, two.Body, two.Err)
		}
	})
}
