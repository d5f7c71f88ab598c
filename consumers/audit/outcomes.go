package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/topology"
)

// outcomes are the results in one partition of the outcomes topic, by key and
// version: some 100 bytes each, and no body.
type outcomes struct {
	byVersion map[uint64]Applied
	names     map[string]string // one string for each result there is
	// passed is when the last heartbeat that came through had been sent: everything
	// before it is applied or in quarantine.
	passed time.Time
}

var seed = maphash.MakeSeed()

// versionHash of a key and its version in the source: an outcome's differs from
// that of its change in the generation of the configuration.
func versionHash(key, version []byte) uint64 {
	if i := bytes.LastIndexByte(version, '.'); i >= 0 {
		version = version[:i]
	}
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.Write(key) // never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(version)
	return h.Sum64()
}

// momentHash of a record without a version, as the end of a znode is: nobody tells
// in which transaction it went. Its outcome repeats when it was observed.
func momentHash(r *topology.Record) uint64 {
	return versionHash([]byte(r.Key), strconv.AppendInt(nil, r.ObservedAt.UnixNano(), 10))
}

// readOutcomes reads a partition from an offset to its end.
func readOutcomes(ctx context.Context, c *stream.Client, p stream.Partition, from int64, q *Query) (*outcomes, error) {
	o := &outcomes{byVersion: map[uint64]Applied{}, names: map[string]string{}}
	heartbeat := []byte(topology.ControlKey(topology.Heartbeat, ""))
	err := c.Read(ctx, p.Topic, p.Number, max(from, p.Start), p.End, func(k *kgo.Record) error {
		switch {
		case bytes.Equal(k.Key, heartbeat):
			if r, err := topology.Decode(k); err == nil {
				o.passed = r.ObservedAt
			}
		case q.key(k.Key):
			o.take(k)
		}
		return nil
	})
	return o, err
}

// take notes an outcome; a later one of the same version replaces it.
func (o *outcomes) take(k *kgo.Record) {
	g, err := topology.GlanceAt(k)
	if err != nil || g.Kind != topology.Object {
		return
	}
	of := versionHash(k.Key, g.Version)
	if len(g.Version) == 0 {
		r, err := topology.Decode(k)
		if err != nil || r.ObservedAt.IsZero() {
			return // nothing in the log asked for it
		}
		of = momentHash(&r)
	}
	a := Applied{At: k.Timestamp.UTC()}
	if k.Value == nil {
		// A delete that succeeded has no body.
		a.Result = "deleted"
		if r, err := topology.Decode(k); err == nil && r.Reason != "" {
			a.Result = r.Reason
		}
	} else if json.Unmarshal(k.Value, &a) != nil {
		return
	}
	name, ok := o.names[a.Result]
	if !ok {
		name = a.Result
		o.names[name] = name
	}
	a.Result = name
	o.byVersion[of] = a
}

// of a change; done tells that everything up to it is applied.
func (o *outcomes) of(r *topology.Record, done bool) Applied {
	of := momentHash(r)
	if !r.Version.IsZero() {
		of = versionHash([]byte(r.Key), []byte(r.Version.String()))
	}
	if a, ok := o.byVersion[of]; ok {
		return a
	}
	if done {
		return Applied{Result: NoWrite}
	}
	return Applied{Result: Pending}
}
