package kube

import (
	"encoding/json"
	"fmt"
	"time"
)

// Meta is what decisions need of an object's metadata.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	ResourceVersion   string            `json:"resourceVersion"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	ManagedFields     []ManagedFields   `json:"managedFields"`
}

// ManagedFields is one entry of metadata.managedFields.
type ManagedFields struct {
	Manager     string          `json:"manager"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource"`
	Time        string          `json:"time"`
	FieldsV1    json.RawMessage `json:"fieldsV1"`
}

// MetaOf decodes the metadata of an object and nothing else. FieldsV1 aliases
// object. The rest of the object is checked to be well-formed JSON.
func MetaOf(object []byte) (Meta, error) {
	var metadata []byte
	end, err := walkObject(object, skipSpace(object, 0), 0, func(key, value []byte) error {
		if keyIs(key, "metadata") {
			metadata = value
		}
		return nil
	})
	if err == nil {
		if end = skipSpace(object, end); end != len(object) {
			err = badJSON(object, end, "nothing more")
		}
	}
	if err != nil {
		return Meta{}, fmt.Errorf("object: %w", err)
	}
	if metadata == nil || isNull(metadata) {
		return Meta{}, fmt.Errorf("object: no metadata")
	}
	return decodeMeta(metadata)
}

// DecodeMeta decodes the value of an object's metadata field.
func DecodeMeta(metadata []byte) (Meta, error) {
	b := metadata[skipSpace(metadata, 0):]
	if end, err := skipValue(b, 0, 0); err != nil {
		return Meta{}, fmt.Errorf("metadata: %w", err)
	} else if skipSpace(b, end) != len(b) {
		return Meta{}, fmt.Errorf("metadata: %w", badJSON(b, end, "nothing more"))
	}
	return decodeMeta(b)
}

func decodeMeta(metadata []byte) (Meta, error) {
	var m Meta
	_, err := walkObject(metadata, 0, 0, func(key, value []byte) error {
		if isNull(value) {
			return nil
		}
		var err error
		switch string(key[1 : len(key)-1]) {
		case "name":
			m.Name, err = unquote(value)
		case "namespace":
			m.Namespace, err = unquote(value)
		case "uid":
			m.UID, err = unquote(value)
		case "resourceVersion":
			m.ResourceVersion, err = unquote(value)
		case "labels":
			m.Labels, err = decodeStrings(value)
		case "annotations":
			m.Annotations, err = decodeStrings(value)
		case "deletionTimestamp":
			m.DeletionTimestamp, err = decodeTime(value)
		case "managedFields":
			m.ManagedFields, err = decodeManagedFields(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key[1:len(key)-1], err)
		}
		return nil
	})
	if err != nil {
		return Meta{}, fmt.Errorf("metadata: %w", err)
	}
	return m, nil
}

func decodeStrings(value []byte) (map[string]string, error) {
	m := map[string]string{}
	_, err := walkObject(value, 0, 0, func(key, value []byte) error {
		k, err := unquote(key)
		if err != nil {
			return err
		}
		if isNull(value) {
			m[k] = ""
			return nil
		}
		m[k], err = unquote(value)
		return err
	})
	return m, err
}

func decodeTime(value []byte) (*time.Time, error) {
	s, err := unquote(value)
	if err != nil {
		return nil, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, err
	}
	return &t, nil
}

func decodeManagedFields(value []byte) ([]ManagedFields, error) {
	entries := make([]ManagedFields, 0, 4)
	_, err := walkArray(value, 0, 0, func(entry []byte) error {
		var f ManagedFields
		_, err := walkObject(entry, 0, 0, func(key, value []byte) error {
			if isNull(value) {
				return nil
			}
			var err error
			switch string(key[1 : len(key)-1]) {
			case "manager":
				f.Manager, err = unquote(value)
			case "operation":
				f.Operation, err = unquote(value)
			case "subresource":
				f.Subresource, err = unquote(value)
			case "time":
				f.Time, err = unquote(value)
			case "fieldsV1":
				f.FieldsV1 = value
			}
			return err
		})
		entries = append(entries, f)
		return err
	})
	return entries, err
}
