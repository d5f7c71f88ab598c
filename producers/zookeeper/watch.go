package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/topology"
)

// ErrConnectionLost ends Watch: whoever calls it connects anew, and everything is
// compared again. The library would set the watches again by itself, but not say when
// it has, and until then nothing could be said of the source.
var ErrConnectionLost = errors.New("the connection to the source was lost")

// WatchOptions of Watch.
type WatchOptions struct {
	// Events of the connection that Source is.
	Events *Events
	// Resync is when to return, for everything to be compared again; 0: never.
	Resync time.Duration
	// Heartbeat is how often to prove how far the log goes.
	Heartbeat time.Duration
	// Compared is told what the comparison found.
	Compared func(*Result)
}

// Watch compares the source with the log, leaving one-shot watches on every node, and
// from then on appends what they tell, setting them anew with each read. It returns nil
// when it is time to compare again.
func (p *Producer) Watch(ctx context.Context, o WatchOptions) error {
	since, started := p.index.verified, time.Now().UTC()
	result, err := p.compare(ctx, true)
	if err != nil {
		return err
	}
	if err := p.gap(ctx, since, started); err != nil {
		return err
	}
	compared := time.Since(started)
	o.Compared(result)
	heartbeat := time.NewTicker(o.Heartbeat)
	defer heartbeat.Stop()
	var resync <-chan time.Time
	if o.Resync > 0 {
		t := time.NewTimer(o.Resync)
		defer t.Stop()
		resync = t.C
	}
	if err := p.prove(ctx, o.Events); err != nil {
		return err
	}
	var soon <-chan time.Time
	for {
		if soon == nil && p.refusals.changed() {
			soon = time.After(max(compareSoon, compareRest*compared))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-resync:
			return nil
		case <-soon:
			return nil
		case <-o.Events.ready:
			err = p.drain(ctx, o.Events)
		case <-heartbeat.C:
			err = p.prove(ctx, o.Events)
		}
		if err != nil {
			return err
		}
	}
}

// What can no longer be read, or can again, has everything compared soon, so that it is
// counted and what is below it is found: after compareSoon, and after compareRest times
// as long as a comparison takes, so that nodes that come and go do not keep one going.
const (
	compareSoon = 5 * time.Second
	compareRest = 20
)

// drain appends what the watches have told.
func (p *Producer) drain(ctx context.Context, e *Events) error {
	for {
		events, lost := e.take()
		if lost {
			return ErrConnectionLost
		}
		if len(events) == 0 {
			return p.failed()
		}
		if err := p.told(ctx, events); err != nil {
			return err
		}
	}
}

// told reads anew what events name.
func (p *Producer) told(ctx context.Context, events []zk.Event) error {
	var gone, data, children []string
	for _, ev := range events {
		path, ok := p.Source.LocalPath(ev.Path)
		if !ok || !p.Rules.Covers(path) {
			continue
		}
		switch ev.Type {
		case zk.EventNodeDeleted:
			gone = append(gone, path)
		case zk.EventNodeChildrenChanged:
			children = append(children, path)
		default:
			data = append(data, path)
		}
	}
	// Ends come first and in their order, which is children first: what was made
	// again since then is found by its parent's list.
	for _, path := range gone {
		if err := p.ended(ctx, path); err != nil {
			return err
		}
	}
	if err := p.each(ctx, data, p.changed); err != nil {
		return err
	}
	return p.each(ctx, children, p.grown)
}

// each calls fn for every path once, many at a time.
func (p *Producer) each(ctx context.Context, paths []string, fn func(context.Context, string) error) error {
	slices.Sort(paths)
	// Not with the context of the group: what is being appended goes on when it ends.
	var g errgroup.Group
	g.SetLimit(ensemble.DefaultInFlight)
	for _, path := range slices.Compact(paths) {
		g.Go(func() error { return fn(ctx, path) })
	}
	return g.Wait()
}

// ended appends the end of a node, if it has not been made again.
func (p *Producer) ended(ctx context.Context, path string) error {
	if path == p.Rules.Root {
		// What is below it has ended before; the root itself is kept: a source that was
		// lost looks the same. It is found missing when everything is compared.
		return p.rootGone(path)
	}
	return p.changed(ctx, path)
}

func (p *Producer) rootGone(path string) error {
	_, found, err := p.Source.Exists(path)
	if err == nil && !found {
		return p.noRoot()
	}
	return err
}

// changed reads a node anew.
func (p *Producer) changed(ctx context.Context, path string) error {
	n, found, err := p.Source.Node(path, p.Rules.CopyACL, true)
	if err == nil && found {
		err = p.found(ctx, n)
	}
	switch {
	case ensemble.IsRefusal(err):
		p.refusals.add(path)
		return nil
	case err != nil:
		return err
	case found:
		p.refusals.remove(path)
		return nil
	case path == p.Rules.Root:
		return p.rootGone(path)
	}
	return p.gone(ctx, path, false)
}

// grown reads the children of a node anew, and what of them the log does not hold.
func (p *Producer) grown(ctx context.Context, path string) error {
	names, _, err := p.Source.ChildrenWatched(path)
	if ensemble.IsRefusal(err) {
		p.refusals.add(path)
		return nil
	}
	if err != nil {
		return err
	}
	prefix := path + "/"
	if path == "/" {
		prefix = path
	}
	for _, name := range names {
		child := prefix + name
		if p.Rules.Skips(child) || p.index.has(child) {
			continue
		}
		w := ensemble.Walk{
			Client: p.Source, Root: child, Skip: p.Rules.Skips, ACL: p.Rules.CopyACL, Watch: true,
			Visit: func(n *ensemble.Node) error { return p.found(ctx, n) },
		}
		_, refused, err := w.Run(ctx)
		for _, r := range refused {
			p.refusals.add(r.Path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prove appends a heartbeat: everything the source held when this began is before it.
// That is so because a server answers on one connection in order: when the answer to a
// request has come, so has every event of what had happened before it was made, and
// sync makes what had happened anywhere in the ensemble happen on this server first.
func (p *Producer) prove(ctx context.Context, e *Events) error {
	at := time.Now().UTC()
	if err := p.Source.Sync(p.Rules.Root); err != nil {
		return err
	}
	if err := p.drain(ctx, e); err != nil {
		return err
	}
	return p.verified(ctx, at)
}

// verified appends the heartbeat that says up to when the log has everything.
func (p *Producer) verified(ctx context.Context, at time.Time) error {
	p.index.verified = at
	return p.append(ctx, &topology.Record{
		Key: topology.ControlKey(topology.Heartbeat, ""), Kind: topology.Heartbeat, VerifiedAt: at, ObservedAt: time.Now().UTC(),
	})
}

// gap marks a time in which nobody watched: states may have existed that the log has
// never seen.
func (p *Producer) gap(ctx context.Context, from, to time.Time) error {
	if from.IsZero() {
		return nil
	}
	body, _ := json.Marshal(topology.GapBody{From: from, To: to}) // plain data always marshals
	// One key for each gap, so that compaction keeps them all.
	key := topology.ControlKey(topology.Gap, strconv.FormatInt(from.UnixMilli(), 10))
	if err := p.append(ctx, &topology.Record{Key: key, Kind: topology.Gap, ObservedAt: to, Body: body}); err != nil {
		return err
	}
	return p.forgetGaps(ctx, to.Add(-topology.DefaultAuditWindow))
}

// forgetGaps lets go of gaps that are out of the audit window: a plan leaves one each
// minute.
func (p *Producer) forgetGaps(ctx context.Context, before time.Time) error {
	for key, to := range p.index.gaps {
		if to.After(before) {
			continue
		}
		delete(p.index.gaps, key)
		if err := p.append(ctx, &topology.Record{Key: key, Kind: topology.Gap, ObservedAt: time.Now().UTC()}); err != nil {
			return err
		}
	}
	return nil
}
