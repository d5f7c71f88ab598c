package topology

import "encoding/json"

// What would block writes at a standby, because what answers for it does not run
// there, is held back until a recovery (holdBackWebhooks): admission webhooks
// wholly, and of a CustomResourceDefinition its conversion webhook.

// holdsBack tells whether anything is held back.
func (r *Rules) holdsBack() bool {
	on := r.config.Replication.HoldBackWebhooks
	return on == nil || *on
}

// blocksWrites tells whether an object is an admission webhook configuration that
// sends requests somewhere.
func blocksWrites(key Key, obj *object) bool {
	if key.Group != "admissionregistration.k8s.io" ||
		key.Resource != "mutatingwebhookconfigurations" && key.Resource != "validatingwebhookconfigurations" {
		return false
	}
	var webhooks []struct {
		ClientConfig struct {
			Service json.RawMessage `json:"service"`
			URL     string          `json:"url"`
		} `json:"clientConfig"`
	}
	raw := obj.top["webhooks"]
	if len(raw) == 0 {
		return false
	}
	if json.Unmarshal(raw, &webhooks) != nil {
		return true // of an unforeseen shape: rather too late than a standby that cannot be written to
	}
	for _, w := range webhooks {
		if w.ClientConfig.URL != "" || len(w.ClientConfig.Service) > 0 && string(w.ClientConfig.Service) != "null" {
			return true
		}
	}
	return false
}

// withoutConversion replaces the conversion webhook of a
// CustomResourceDefinition by the conversion that needs none, and tells whether
// there was one. Objects are stored at the destination in the version they are
// written in, and are converted when the recovery puts the webhook back.
func withoutConversion(key Key, body []byte) (out []byte, held bool, err error) {
	if key.Group != "apiextensions.k8s.io" || key.Resource != "customresourcedefinitions" {
		return body, false, nil
	}
	obj, err := parseObject(body)
	if err != nil {
		return nil, false, err
	}
	spec, err := obj.spec()
	if err != nil || spec == nil {
		return body, false, err
	}
	var conversion struct {
		Strategy string `json:"strategy"`
	}
	if raw, ok := spec["conversion"]; !ok || json.Unmarshal(raw, &conversion) != nil || conversion.Strategy != "Webhook" {
		return body, false, nil
	}
	spec["conversion"] = json.RawMessage(`{"strategy":"None"}`)
	obj.top["spec"] = spec.encode()
	return obj.encode(), true, nil
}

// HeldBackPrefixes names the resources of which objects may be held back, as prefixes of
// their keys.
func HeldBackPrefixes() []string {
	return []string{"admissionregistration.k8s.io/", "apiextensions.k8s.io/"}
}
