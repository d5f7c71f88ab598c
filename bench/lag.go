package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	lagObjects  = 100
	lagInterval = 10 * time.Second
	bareSpace   = "bench-lag-bare"
	imageSpace  = "bench-lag-image"
)

// lag compares the way of one change at half the rate the bare loop sustains.
func (b *bench) lag(ctx context.Context) ([]row, error) {
	for _, ns := range []string{bareSpace, imageSpace} {
		if err := errors.Join(b.namespace(ctx, ns), b.fill(ctx, ns, 0, lagObjects)); err != nil {
			return nil, err
		}
	}
	maximum, err := b.bareMaximum(ctx)
	if err != nil {
		return nil, err
	}
	rate := maximum / 2
	say("lag: the bare loop sustains %.0f changes/s; measuring at %.0f/s", maximum, rate)
	var subject, baseline [2][]time.Duration
	for i := range b.options.rounds {
		bare, err := b.lagBare(ctx, rate)
		if err != nil {
			return nil, err
		}
		image, err := b.lagAfterimage(ctx, rate)
		if err != nil {
			return nil, err
		}
		for k, p := range []float64{50, 99} {
			baseline[k] = append(baseline[k], percentile(bare, p))
			subject[k] = append(subject[k], percentile(image, p))
		}
		say("lag %d/%d: bare p50 %s p99 %s, afterimage p50 %s p99 %s", i+1, b.options.rounds,
			baseline[0][i], baseline[1][i], subject[0][i], subject[1][i])
	}
	rateName := fmt.Sprintf(" at %.0f changes/s", rate)
	return []row{
		compared("live lag p50"+rateName, subject[0], baseline[0], 10*time.Microsecond, "≤ 2.5"),
		compared("live lag p99"+rateName, subject[1], baseline[1], 10*time.Microsecond, "≤ 2.5"),
	}, nil
}

// bareLoop watches the source and writes each event to the destination, one
// after the other, as the simplest replicator does.
func (b *bench) bareLoop(ctx context.Context, written *atomic.Int64) error {
	l, err := b.src.CoreV1().ConfigMaps(bareSpace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	w, err := b.src.CoreV1().ConfigMaps(bareSpace).Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		m, ok := e.Object.(*corev1.ConfigMap)
		if ctx.Err() != nil {
			return nil
		}
		if !ok {
			return fmt.Errorf("watch: %v", e.Object)
		}
		m.ObjectMeta = metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels}
		_, err := b.dst.CoreV1().ConfigMaps(bareSpace).Update(ctx, m, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = b.dst.CoreV1().ConfigMaps(bareSpace).Create(ctx, m, metav1.CreateOptions{})
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		written.Add(1)
	}
	return nil
}

// bareMaximum is how many changes a second the bare loop writes when there are
// always more waiting.
func (b *bench) bareMaximum(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var written atomic.Int64
	loop := make(chan error, 1)
	go func() { loop <- b.bareLoop(ctx, &written) }()
	time.Sleep(200 * time.Millisecond)
	var state atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i += 8 {
				_, _ = b.src.CoreV1().ConfigMaps(bareSpace).Update(ctx, configMap(bareSpace, i%lagObjects, int(state.Add(1))), metav1.UpdateOptions{})
			}
		})
	}
	time.Sleep(2 * time.Second)
	before := written.Load()
	time.Sleep(5 * time.Second)
	n := written.Load() - before
	cancel()
	wg.Wait()
	if err := <-loop; err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errors.New("the bare loop wrote nothing")
	}
	return float64(n) / 5, nil
}

func (b *bench) lagBare(ctx context.Context, rate float64) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loop := make(chan error, 1)
	var written atomic.Int64
	go func() { loop <- b.bareLoop(ctx, &written) }()
	time.Sleep(500 * time.Millisecond)
	v, err := b.measureLag(ctx, bareSpace, rate)
	cancel()
	return v, errors.Join(err, <-loop)
}

func (b *bench) lagAfterimage(ctx context.Context, rate float64) ([]time.Duration, error) {
	p, err := b.afterimage(imageSpace, "1h", nil)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if err := b.awaitCount(ctx, imageSpace, lagObjects, p); err != nil {
		return nil, err
	}
	time.Sleep(3 * time.Second) // past start-up, as the bare loop is
	return b.measureLag(ctx, imageSpace, rate)
}

// measureLag writes to the source at a rate and notes when the destination's
// watch shows each state. A state that is overtaken by a later one of its object
// counts when the later one is shown.
func (b *bench) measureLag(ctx context.Context, ns string, rate float64) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &lagMeter{sent: make([][]sent, lagObjects)}
	ready := make(chan error, 1)
	watched := make(chan struct{})
	go func() { m.watch(ctx, b.dst, ns, ready); close(watched) }()
	if err := <-ready; err != nil {
		return nil, err
	}
	// States grow with the clock, so that no run's state equals an earlier one's.
	state := int(time.Now().Unix()) * 100000
	var wg sync.WaitGroup
	lanes := make([]chan int, 8) // an object belongs to one lane: its states are in order
	for w := range lanes {
		lanes[w] = make(chan int, 64)
		wg.Go(func() {
			for s := range lanes[w] {
				m.write(ctx, b.src, ns, s%lagObjects, s)
			}
		})
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for end := time.Now().Add(lagInterval); time.Now().Before(end); <-tick.C {
		state++
		lanes[(state%lagObjects)%8] <- state
	}
	for _, l := range lanes {
		close(l)
	}
	wg.Wait()
	if err := m.drain(30 * time.Second); err != nil {
		return nil, err
	}
	cancel()
	<-watched
	return m.lags, m.err
}

type sent struct {
	state int
	at    time.Time
}

type lagMeter struct {
	mu    sync.Mutex
	sent  [][]sent
	shown [lagObjects]int
	lags  []time.Duration
	err   error
}

func (m *lagMeter) write(ctx context.Context, c *kubernetes.Clientset, ns string, object, state int) {
	_, err := c.CoreV1().ConfigMaps(ns).Update(ctx, configMap(ns, object, state), metav1.UpdateOptions{})
	at := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil:
		m.err = errors.Join(m.err, err)
	case m.shown[object] >= state: // the destination was faster than the source's answer
		m.lags = append(m.lags, 0)
	default:
		m.sent[object] = append(m.sent[object], sent{state, at})
	}
}

func (m *lagMeter) watch(ctx context.Context, c *kubernetes.Clientset, ns string, ready chan<- error) {
	l, err := c.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		ready <- err
		return
	}
	w, err := c.CoreV1().ConfigMaps(ns).Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion})
	ready <- err
	if err != nil {
		return
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		o, ok := e.Object.(*corev1.ConfigMap)
		if !ok {
			continue
		}
		state, _ := strconv.Atoi(o.Data["state"])
		var object int
		_, _ = fmt.Sscanf(o.Name, "config-%d", &object)
		m.see(object, state, time.Now())
	}
}

func (m *lagMeter) see(object, state int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown[object] = max(m.shown[object], state)
	left := m.sent[object][:0]
	for _, s := range m.sent[object] {
		if s.state <= state {
			m.lags = append(m.lags, at.Sub(s.at))
		} else {
			left = append(left, s)
		}
	}
	m.sent[object] = left
}

// drain waits until everything sent was shown: a change that never arrives is
// a failure, not a gap in the figures.
func (m *lagMeter) drain(d time.Duration) error {
	for deadline := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) {
		m.mu.Lock()
		left := 0
		for _, s := range m.sent {
			left += len(s)
		}
		m.mu.Unlock()
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d changes never arrived", left)
		}
	}
}
