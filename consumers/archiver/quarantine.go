package archiver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// A key whose original cannot be stored or removed is put into quarantine: its
// position is passed, so that it delays nothing else (guarantee 5), and it is
// tried again by itself, its record read again from the log. A newer record of
// the key replaces it.

// reasonUnusable: the record is none that an original can be made of.
const reasonUnusable = "Unusable"

// quarantine puts the key of an attempt there, and says so once per reason.
func (a *attempt) quarantine(failure, reason string, err error) result {
	const longest = 1024
	message := err.Error()
	if len(message) > longest {
		message = message[:longest] + "…"
	}
	now := time.Now()
	q := state.Quarantine{Offset: a.j.offset, Reason: reason, Message: message, Attempts: 1, Since: now, Version: a.j.version}
	news := true
	if old := a.q; old != nil && old.Offset == q.Offset {
		q.Since = old.Since
		if news = old.Reason != reason; !news {
			q.Attempts = old.Attempts + 1
		}
	}
	q.NextTry = now.Add(a.a.delay(q.Attempts))
	if news {
		op := topology.Delete
		if failure == logging.ErrUploadingObject {
			op = topology.Create
			if a.live() {
				op = topology.Update
			}
		}
		a.say(slog.LevelError, failure, op, slog.String("reason", reason), logging.Err(err))
	}
	return result{quarantine: &q}
}

// delay before an attempt: doubled each time between RetryMin and RetryMax, less
// up to a fifth, so that what failed together does not come together.
func (a *Archiver) delay(attempts int) time.Duration {
	d := a.RetryMax
	if shift := attempts - 1; shift < 16 {
		d = min(d, a.RetryMin<<shift)
	}
	return d - rand.N(d/5+1)
}

// retryEvery is how often the quarantine is looked through.
const (
	retryEvery    = 250 * time.Millisecond
	maxRetryEvery = 5 * time.Second
)

// retryLoop tries again what is due, until ctx ends.
func (p *partition) retryLoop(ctx context.Context) error {
	every := retryEvery
	for {
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		case <-p.retryNow:
			t.Stop()
		}
		every = retryEvery
		due := p.due(time.Now())
		if len(due) == 0 {
			continue
		}
		began := time.Now()
		if err := p.retry(ctx, due); err != nil && ctx.Err() == nil {
			p.log.Warn("reading quarantined records again failed", logging.Err(err))
		}
		// Where many fail, a retry reads much of the partition: no more than a
		// quarter of the time goes into that.
		every = min(max(retryEvery, 3*time.Since(began)), maxRetryEvery)
	}
}

// due takes the quarantined keys whose time has come, and puts their next try
// off, so that each is read once.
func (p *partition) due(now time.Time) map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := map[string]int64{}
	for name, q := range p.memory.quarantined {
		if q.NextTry.After(now) {
			continue
		}
		if _, busy := p.lanes[name]; busy {
			continue
		}
		q.NextTry = now.Add(p.a.RetryMax) // in the index only; the attempt sets its own
		p.memory.quarantined[name] = q
		due[name] = q.Offset
	}
	return due
}

// retry submits the jobs of quarantined keys again.
func (p *partition) retry(ctx context.Context, due map[string]int64) error {
	offsets := make([]int64, 0, len(due))
	for _, offset := range due {
		offsets = append(offsets, offset)
	}
	err := p.replay(ctx, offsets, func(j *job) {
		delete(due, j.name)
	})
	if err != nil {
		return err
	}
	// A record that compaction took has a newer one behind it, which comes by
	// itself, unless it was a tombstone: these expire.
	for name := range due {
		p.mu.Lock()
		e, known, err := p.memory.get(name)
		p.mu.Unlock()
		if err != nil {
			return err
		}
		key, keyErr := topology.ParseKey(name)
		if !known || !has(e, markGoing) || keyErr != nil {
			continue
		}
		tombstone := &topology.Record{Key: name, Kind: topology.Object, Op: topology.Delete, Version: versionOf(e), UID: e.UID, Offset: e.Offset}
		if err := p.submit(ctx, &job{key: key, name: name, record: tombstone, version: tombstone.Version, offset: e.Offset, verify: true}); err != nil {
			return err
		}
	}
	return nil
}

// fewRecords are read one by one, more in one go.
const fewRecords = 8

// replay reads records of objects again by their offsets and submits their jobs;
// before, if not nil, sees each. What compaction took is passed over.
func (p *partition) replay(ctx context.Context, offsets []int64, before func(*job)) error {
	wanted := make(map[int64]struct{}, len(offsets))
	first, last := int64(-1), int64(-1)
	for _, offset := range offsets {
		wanted[offset] = struct{}{}
		if first < 0 || offset < first {
			first = offset
		}
		last = max(last, offset)
	}
	submit := func(rec *kgo.Record) error {
		if _, ok := wanted[rec.Offset]; !ok {
			return nil
		}
		r, err := topology.Decode(rec)
		if err != nil || r.Kind != topology.Object {
			return nil //nolint:nilerr // it was decoded before; what cannot be now is no longer ours
		}
		key, err := topology.ParseKey(r.Key)
		if err != nil {
			return nil //nolint:nilerr // Decode checked the key
		}
		j := &job{key: key, name: r.Key, record: &r, version: r.Version, offset: r.Offset, verify: true}
		if before != nil {
			before(j)
		}
		return p.submit(ctx, j)
	}
	if len(wanted) > fewRecords {
		in, err := p.a.Log.Bounds(ctx, p.a.Topics.Changes, p.number)
		if err != nil {
			return err
		}
		return p.a.Log.Read(ctx, p.a.Topics.Changes, p.number, max(first, in.Start), last+1, submit)
	}
	for offset := range wanted {
		if err := p.readOne(ctx, offset, submit); err != nil {
			return err
		}
	}
	return nil
}

// readOne calls fn for the record at an offset, if it is still there.
func (p *partition) readOne(ctx context.Context, offset int64, fn func(*kgo.Record) error) error {
	in, err := p.a.Log.Bounds(ctx, p.a.Topics.Changes, p.number)
	if err != nil || offset < in.Start || offset >= in.End {
		return err
	}
	return p.a.Log.Read(ctx, p.a.Topics.Changes, p.number, offset, offset+1, fn)
}
