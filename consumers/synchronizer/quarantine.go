package synchronizer

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// A key that could not be applied is put into quarantine: its position is passed,
// so that it delays nothing else (guarantee 5), and it is tried again by itself,
// its record read again from the log. A newer record of the key replaces it.

// fail puts the key of an attempt into quarantine.
func (a *attempt) fail(reason, message string, err error) result {
	const longest = 1024 // of a message; admission webhooks can be talkative
	if len(message) > longest {
		message = message[:longest] + "…"
	}
	now := time.Now()
	q := state.Quarantine{Offset: a.w.offset, Reason: reason, Message: message, Attempts: 1, Since: now, Version: a.w.version}
	if a.w.offset < 0 {
		q.Offset = a.e.Offset
	}
	news := true
	if old := a.q; old != nil && old.Offset == q.Offset {
		q.Since = old.Since
		if news = old.Reason != reason; !news {
			q.Attempts = old.Attempts + 1
		}
	}
	if retries(reason) {
		q.NextTry = now.Add(a.s.delay(q.Attempts))
	}
	r := result{change: &change{quarantine: &q}}
	if news {
		a.sayFailure(reason, message, err)
		r.outcome = &topology.OutcomeBody{Result: string(Failed), Reason: reason, Message: message, DestinationUID: a.e.DestinationUID}
	}
	return r
}

// retries tells whether trying again can help: what the processor held waits for
// its next record, what somebody overrides for the next comparison.
func retries(reason string) bool { return reason != ReasonPatchFailed && reason != ReasonOverridden }

// delay before an attempt: doubled each time between RetryMin and RetryMax, less
// up to a fifth, so that what failed together does not come together.
func (s *Synchronizer) delay(attempts int) time.Duration {
	d := s.RetryMax
	if shift := attempts - 1; shift < 16 {
		d = min(d, s.RetryMin<<shift)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

// retryEvery is how often the quarantine is looked through.
const (
	retryEvery    = 250 * time.Millisecond
	maxRetryEvery = 5 * time.Second
)

// retryLoop tries again what is due, until ctx ends.
func (p *partition) retryLoop(ctx context.Context) error {
	t := time.NewTicker(retryEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-p.retryNow:
		}
		due := p.due(time.Now())
		if len(due) == 0 {
			continue
		}
		began := time.Now()
		if err := p.replay(ctx, due, func(w want) *job { return &job{want: w, retry: true} }); err != nil && ctx.Err() == nil {
			p.log.Warn("reading quarantined records again failed", logging.Err(err))
		}
		// Where many fail, a replay reads much of the partition: no more than a
		// quarter of the time goes into that, and what falls due meanwhile is read
		// in one go.
		t.Reset(min(max(retryEvery, 3*time.Since(began)), maxRetryEvery))
	}
}

// due takes the quarantined keys whose time has come, by the offset of their
// record, and puts their next try off, so that each is read once.
func (p *partition) due(now time.Time) map[int64]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := map[int64]string{}
	for key, q := range p.memory.quarantined {
		if q.NextTry.IsZero() || q.NextTry.After(now) {
			continue
		}
		if _, busy := p.lanes[key]; busy {
			continue
		}
		q.NextTry = now.Add(p.s.RetryMax) // in the index only; the attempt sets its own
		p.memory.quarantined[key] = q
		due[q.Offset] = key
	}
	return due
}

// release makes keys due at once: what they wait for has come.
func (p *partition) release(matches func(key string, q *state.Quarantine) bool) {
	p.mu.Lock()
	now, any := time.Now(), false
	for key, q := range p.memory.quarantined {
		if q.NextTry.IsZero() || !matches(key, &q) {
			continue
		}
		q.NextTry, q.Attempts = now, 0
		p.memory.quarantined[key] = q
		any = true
	}
	p.mu.Unlock()
	if any {
		select {
		case p.retryNow <- struct{}{}:
		default:
		}
	}
}

// fewRecords are read one by one, more in one go.
const fewRecords = 8

// replay reads records again by their offsets and submits the jobs made of them.
// A record that compaction took has a newer one behind it, which comes by itself.
func (p *partition) replay(ctx context.Context, at map[int64]string, jobOf func(want) *job) error {
	submit := func(k *kgo.Record) error {
		if key, ok := at[k.Offset]; !ok || key != string(k.Key) {
			return nil
		}
		rec, err := topology.Decode(k)
		if err != nil {
			return nil // it was decoded before; a newer Afterimage's it is not
		}
		w, err := wantOf(&rec)
		if err != nil {
			return nil
		}
		w.verify = false
		return p.submit(ctx, jobOf(w))
	}
	if len(at) <= fewRecords {
		for offset, key := range at {
			k, ok, err := p.s.Log.At(ctx, p.s.Topics.Desired, p.id.Number, offset, key)
			if err != nil {
				return err
			}
			if ok {
				if err := submit(k); err != nil {
					return err
				}
			}
		}
		return nil
	}
	first, last := int64(-1), int64(-1)
	for offset := range at {
		if first < 0 || offset < first {
			first = offset
		}
		last = max(last, offset)
	}
	return p.s.Log.Read(ctx, p.s.Topics.Desired, p.id.Number, first, last+1, submit)
}
