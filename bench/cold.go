package main

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cold compares from nothing to everything.
func (b *bench) cold(ctx context.Context) ([]row, error) {
	const ns = "bench-cold"
	if err := b.namespace(ctx, ns); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, ns, 0, b.options.objects); err != nil {
		return nil, err
	}
	var subject, baseline []time.Duration
	for i := range b.options.rounds {
		d, err := b.coldBare(ctx, ns)
		if err != nil {
			return nil, err
		}
		baseline = append(baseline, d)
		say("cold %d/%d: bare client %s", i+1, b.options.rounds, d.Round(time.Millisecond))
		if d, err = b.coldAfterimage(ctx, ns); err != nil {
			return nil, err
		}
		subject = append(subject, d)
		say("cold %d/%d: afterimage %s", i+1, b.options.rounds, d.Round(time.Millisecond))
	}
	return []row{compared("cold convergence", subject, baseline, time.Millisecond, "≤ 1.5")}, b.src.CoreV1().ConfigMaps(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

func (b *bench) coldAfterimage(ctx context.Context, ns string) (time.Duration, error) {
	begin := time.Now()
	p, err := b.afterimage(ns, "1h", nil)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	return b.finish(ctx, ns, begin, p)
}

func (b *bench) coldBare(ctx context.Context, ns string) (time.Duration, error) {
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- b.copyBare(ctx, ns) }()
	d, err := b.finish(ctx, ns, begin, nil)
	if copyErr := <-done; err == nil {
		err = copyErr
	}
	return d, err
}

// finish waits for the last object, then checks equality and empties the
// destination, off the clock.
func (b *bench) finish(ctx context.Context, ns string, begin time.Time, p *process) (time.Duration, error) {
	if err := b.awaitCount(ctx, ns, b.options.objects, p); err != nil {
		return 0, err
	}
	d := time.Since(begin)
	if err := b.equal(ctx, ns); err != nil {
		return 0, err
	}
	if p != nil {
		p.stop()
	}
	return d, b.empty(ctx, ns)
}

// copyBare lists the source in pages and creates each object as it comes.
func (b *bench) copyBare(ctx context.Context, ns string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *corev1.ConfigMap, 500)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for m := range next {
				m.ObjectMeta = metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels, Annotations: m.Annotations}
				if _, err := b.dst.CoreV1().ConfigMaps(ns).Create(ctx, m, metav1.CreateOptions{}); err != nil {
					cancel(err)
				}
			}
		})
	}
	o := metav1.ListOptions{Limit: 500}
	for {
		l, err := b.src.CoreV1().ConfigMaps(ns).List(ctx, o)
		if err != nil {
			cancel(err)
			break
		}
		for i := range l.Items {
			next <- &l.Items[i]
		}
		if o.Continue = l.Continue; o.Continue == "" {
			break
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
