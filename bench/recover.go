package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/state/bucket"
)

// recover compares a recovery into an empty destination, from the log and from the
// bucket, with a client that applies the same objects from memory.
func (b *bench) recover(ctx context.Context) (rows []row, err error) {
	const ns = "bench-recover"
	if err := b.namespace(ctx, ns); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, ns, 0, b.options.objects); err != nil {
		return nil, err
	}
	store, err := testcluster.StartS3(ctx, testcluster.S3Config{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }() // a temporary folder's
	if err := store.CreateBucket(ctx, "originals"); err != nil {
		return nil, err
	}
	dir, err := b.recorded(ctx, ns, store)
	if err != nil {
		return nil, err
	}
	from := map[string][]time.Duration{}
	var baseline []time.Duration
	for i := range b.options.rounds {
		d, err := b.applyBare(ctx, ns)
		if err != nil {
			return nil, err
		}
		baseline = append(baseline, d)
		say("recover %d/%d: bare apply %s", i+1, b.options.rounds, d.Round(time.Millisecond))
		for _, source := range []string{"log", "bucket"} {
			if d, err = b.recoverFrom(ctx, ns, dir, source); err != nil {
				return nil, err
			}
			from[source] = append(from[source], d)
			say("recover %d/%d: from the %s %s", i+1, b.options.rounds, source, d.Round(time.Millisecond))
		}
	}
	return []row{
		compared("recovery from the log", from["log"], baseline, time.Millisecond, "≤ 1.3"),
		compared("recovery from the bucket", from["bucket"], baseline, time.Millisecond, "≤ 1.3"),
	}, b.src.CoreV1().ConfigMaps(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

// recorded lets afterimage fill its log and its bucket, and empties the destination.
func (b *bench) recorded(ctx context.Context, ns string, store *testcluster.S3) (dir string, err error) {
	p, err := b.afterimageWith(ns, "1h", nil, store.Addr())
	if err != nil {
		return "", err
	}
	defer p.stop()
	if err := b.awaitCount(ctx, ns, b.options.objects, p); err != nil {
		return "", err
	}
	originals, err := bucket.New(bucket.Options{Endpoint: store.Addr(), Name: "originals", AccessKeyID: testcluster.S3AccessKey, SecretAccessKey: testcluster.S3SecretKey})
	if err != nil {
		return "", err
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		n := 0
		err := originals.List(ctx, bucket.Folder("default", ns), func(bucket.Entry) error { n++; return nil })
		if err == nil && n == b.options.objects {
			break
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%d of %d originals are in the bucket (%w); the log ends: %s", n, b.options.objects, err, p.tail())
		}
	}
	p.stop()
	return filepath.Dir(p.log), b.empty(ctx, ns)
}

// recoverFrom times the whole process.
func (b *bench) recoverFrom(ctx context.Context, ns, dir, source string) (time.Duration, error) {
	c := exec.CommandContext(ctx, b.binary, "recover", "-f", filepath.Join(dir, "manifests"), "--data-dir", filepath.Join(dir, "data"), "--from", source)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	begin := time.Now()
	if err := c.Run(); err != nil {
		said := out.String()
		return 0, fmt.Errorf("recovering: %w: %s", err, said[max(0, len(said)-2000):])
	}
	d := time.Since(begin)
	if err := b.equal(ctx, ns); err != nil {
		return 0, err
	}
	return d, b.empty(ctx, ns)
}

// applyBare applies the source's objects from memory.
func (b *bench) applyBare(ctx context.Context, ns string) (time.Duration, error) {
	l, err := b.src.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	bodies := make([][]byte, len(l.Items))
	for i := range l.Items {
		m := &l.Items[i]
		m.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		m.ObjectMeta = metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels, Annotations: m.Annotations}
		if bodies[i], err = json.Marshal(m); err != nil {
			return 0, err
		}
	}
	force := true
	begin := time.Now()
	err = parallel(ctx, 0, len(bodies), func(ctx context.Context, i int) error {
		_, err := b.dst.CoreV1().ConfigMaps(ns).Patch(ctx, l.Items[i].Name, types.ApplyPatchType, bodies[i], metav1.PatchOptions{FieldManager: "bench", Force: &force})
		return err
	})
	if err != nil {
		return 0, err
	}
	d := time.Since(begin)
	if err := b.equal(ctx, ns); err != nil {
		return 0, err
	}
	return d, b.empty(ctx, ns)
}
