package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/afterimage-dr/afterimage/topology"
)

// maxContent bounds what is read into memory: more than any record holds.
const maxContent = 64 << 20

// Get reads an original and verifies it: ErrNotFound, ErrDamaged, ErrForeign.
func (b *Bucket) Get(ctx context.Context, path string) (Original, error) {
	content, metadata, err := b.read(ctx, path)
	if err != nil {
		return Original{}, err
	}
	return verify(path, content, metadata)
}

// verify that content is what was stored at the path.
func verify(path string, content []byte, metadata map[string]string) (Original, error) {
	if err := checkSchema(metadata); err != nil {
		return Original{}, fmt.Errorf("%s: %w", path, err)
	}
	if sum := checksum(content); sum != metadata[metaSum] {
		return Original{}, fmt.Errorf("%s: %w: %d bytes with the checksum %s, stored were others with %s", path, ErrDamaged, len(content), sum, metadata[metaSum])
	}
	o, err := decode(content)
	if err != nil {
		return Original{}, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if err := o.at(path); err != nil {
		return Original{}, err
	}
	return o, nil
}

// at sets the path, and refuses one that is of another object: it was copied.
func (o *Original) at(path string) error {
	l, err := ParsePath(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if key, ok := l.Key(o.Key.Namespace != ""); !ok || key != o.Key {
		return fmt.Errorf("%s: %w: it holds %s", path, ErrForeign, o.Key)
	}
	o.Path = path
	return nil
}

// GetLiteral reads an object that others may have stored, as it is: its JSON is
// the body, its path and metadata name it, and there is no checksum to verify.
// What Afterimage stored is verified as by Get; where only the metadata were
// lost, in a copy to another store, the stamp is still read from the content.
//
// Without a stamp only Path, Key and Body are set, UID where the JSON has one.
// ErrNotFound; ErrForeign if it is no Kubernetes object or not the one of the path.
func (b *Bucket) GetLiteral(ctx context.Context, path string) (Original, error) {
	content, metadata, err := b.read(ctx, path)
	if err != nil {
		return Original{}, err
	}
	if err := checkSchema(metadata); !errors.Is(err, ErrForeign) {
		return verify(path, content, metadata)
	}
	if o, err := decode(content); err == nil {
		return o, o.at(path)
	}
	return literal(path, content)
}

func literal(path string, content []byte) (Original, error) {
	var found struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
			UID       string `json:"uid"`
		} `json:"metadata"`
	}
	l, err := ParsePath(path)
	if err != nil {
		return Original{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if err := json.Unmarshal(content, &found); err != nil {
		return Original{}, fmt.Errorf("%s: %w: %w", path, ErrForeign, err)
	}
	if found.APIVersion == "" || found.Kind == "" || found.Metadata.Name == "" {
		return Original{}, fmt.Errorf("%s: %w: no Kubernetes object", path, ErrForeign)
	}
	key := topology.Key{
		Group: l.Group, Version: l.Version, Resource: l.Resource,
		Namespace: found.Metadata.Namespace, Name: found.Metadata.Name,
	}
	object, err := parse(content)
	if err != nil {
		return Original{}, fmt.Errorf("%s: %w: %w", path, ErrForeign, err)
	}
	if err := object.strip(); err != nil {
		return Original{}, fmt.Errorf("%s: %w: %w", path, ErrForeign, err)
	}
	if len(object.annotations) == 0 {
		object.had = annotationsAbsent
	}
	o := Original{Key: key, UID: found.Metadata.UID, Body: object.encode()}
	return o, o.at(path)
}

// read the content and metadata at a path.
func (b *Bucket) read(ctx context.Context, path string) (content []byte, metadata map[string]string, err error) {
	found := true
	err = b.call(ctx, "reading "+path, func(ctx context.Context) error {
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.options.Name, Key: b.key(path)})
		if err != nil {
			if missing(err) {
				found = false
				return nil
			}
			return err
		}
		defer out.Body.Close()
		metadata = out.Metadata
		content, err = io.ReadAll(io.LimitReader(out.Body, maxContent+1))
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, nil, err
	case !found:
		return nil, nil, fmt.Errorf("%s: %w", path, ErrNotFound)
	case len(content) > maxContent:
		return nil, nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrForeign, maxContent)
	}
	return content, metadata, nil
}
