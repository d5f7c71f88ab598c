package topology

import (
	"encoding/json"
	"fmt"
	"strings"
)

// copyService drops the addresses and ports that a cluster allocates. "None" is
// no address: it makes a Service headless.
func copyService(o *object, keepNodePorts bool) error {
	spec, err := o.spec()
	if spec == nil || err != nil {
		return err
	}
	if string(spec["clusterIP"]) != `"None"` {
		delete(spec, "clusterIP")
		delete(spec, "clusterIPs")
	}
	if !keepNodePorts {
		delete(spec, "healthCheckNodePort")
		if err := spec.cut("ports", "*", "nodePort"); err != nil {
			return fmt.Errorf("spec.%w", err)
		}
	}
	o.top["spec"] = spec.encode()
	return nil
}

// copyPod drops the token volume that admission injects (under a random name)
// and its mounts: the destination injects its own.
func copyPod(o *object, _ bool) error {
	spec, err := o.spec()
	if spec == nil || err != nil {
		return err
	}
	account := stringOf(spec["serviceAccountName"])
	injected := func(volume string) bool {
		return strings.HasPrefix(volume, "kube-api-access-") || account != "" && strings.HasPrefix(volume, account+"-token-")
	}
	if err := spec.filterList("volumes", func(volume doc) (bool, error) {
		return !injected(stringOf(volume["name"])), nil
	}); err != nil {
		return err
	}
	for _, containers := range []string{"containers", "initContainers"} {
		if err := spec.filterList(containers, func(container doc) (bool, error) {
			return true, container.filterList("volumeMounts", func(mount doc) (bool, error) {
				return !injected(stringOf(mount["name"])), nil
			})
		}); err != nil {
			return err
		}
	}
	o.top["spec"] = spec.encode()
	return nil
}

// copyJob drops the selector and the labels made from the uid of the source's
// Job, unless the user chose the selector.
func copyJob(o *object, _ bool) error {
	spec, err := o.spec()
	if spec == nil || err != nil {
		return err
	}
	if string(spec["manualSelector"]) != "true" {
		delete(spec, "selector")
		for _, label := range jobLabels {
			if err := spec.cut("template", "metadata", "labels", label); err != nil {
				return fmt.Errorf("spec.%w", err)
			}
		}
	}
	o.top["spec"] = spec.encode()
	return nil
}

// copyServiceAccount drops the references to Secrets that each cluster makes for
// the account.
func copyServiceAccount(o *object, _ bool) error {
	name := stringOf(o.meta["name"])
	made := func(ref doc) (bool, error) {
		secret := stringOf(ref["name"])
		return !strings.HasPrefix(secret, name+"-token-") && !strings.HasPrefix(secret, name+"-dockercfg-"), nil
	}
	if err := o.top.filterList("secrets", made); err != nil {
		return err
	}
	return o.top.filterList("imagePullSecrets", made)
}

// copyTokenSecret drops the token, which speaks for the source, so that the
// destination's token controller fills in its own.
func copyTokenSecret(o *object, _ bool) error {
	if string(o.top["type"]) != serviceAccountToken {
		return nil
	}
	for _, name := range []string{"token", "ca.crt", "namespace"} {
		if err := o.top.cut("data", name); err != nil {
			return err
		}
	}
	return o.cutStrings("annotations", []string{"kubernetes.io/service-account.uid"})
}

// copyClusterRole drops the rules of an aggregated role.
func copyClusterRole(o *object, _ bool) error {
	if raw, ok := o.top["aggregationRule"]; ok && string(raw) != "null" {
		delete(o.top, "rules")
	}
	return nil
}

// spec returns the decoded spec; nil where there is none.
func (o *object) spec() (doc, error) {
	raw, ok := o.top["spec"]
	if !ok || string(raw) == "null" {
		return nil, nil
	}
	spec, err := parseDoc(raw)
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return spec, nil
}

// filterList keeps the elements of a list of objects for which keep says so, as
// keep leaves them.
func (d doc) filterList(name string, keep func(doc) (bool, error)) error {
	raw, ok := d[name]
	if !ok || string(raw) == "null" {
		return nil
	}
	var in []json.RawMessage
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	out := make([]json.RawMessage, 0, len(in))
	for i := range in {
		element, err := parseDoc(in[i])
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		ok, err := keep(element)
		if err != nil {
			return fmt.Errorf("%s[%d].%w", name, i, err)
		}
		if ok {
			out = append(out, element.encode())
		}
	}
	d[name] = marshal(out)
	return nil
}

// stringOf decodes a JSON string; anything else is empty.
func stringOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
