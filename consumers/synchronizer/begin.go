package synchronizer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// begin finds the position, folds what lies between it and the end, and rebuilds
// what was lost.
func (p *partition) begin(ctx context.Context, destination string) (from int64, fold *stream.Fold, err error) {
	b, err := p.s.Log.Bounds(ctx, p.s.Topics.Desired, p.assignment.Number)
	if err != nil {
		return 0, nil, err
	}
	p.id = state.PartitionID{TopicID: b.TopicID, Number: b.Number}
	p.memory, p.destination = newMemory(p.s.State, p.id), destination
	from, known, err := p.position(b, destination)
	if err != nil {
		return 0, nil, err
	}
	source, err := p.meta(metaSource)
	if err != nil {
		return 0, nil, err
	}
	was, err := p.meta(metaFormer)
	if err != nil {
		return 0, nil, err
	}
	former := strings.Fields(was)
	generation, err := p.meta(metaGeneration)
	if err != nil {
		return 0, nil, err
	}
	p.generation, _ = strconv.ParseInt(generation, 10, 64) // 0 while there was none
	p.newest = p.generation
	fold, err = p.s.Log.Fold(ctx, p.s.Topics.Desired, b.Number, from, b.End, func(k *kgo.Record) {
		p.foldEnd = k.Offset + 1
		if key, err := topology.ParseKey(string(k.Key)); err == nil {
			p.gvrs[key.GVR()] = true
			return
		}
		if r, err := topology.Decode(k); err == nil && r.Kind == topology.Configured {
			if c, err := configOf(&r); err == nil && c.Generation >= p.newest {
				source, former, p.newest = c.SourceUID, c.FormerSourceUIDs, c.Generation
			}
		}
	})
	if err != nil {
		return 0, nil, err
	}
	p.comesAfter(former)
	if err := p.own(ctx, source, len(p.gvrs) > 0); err != nil {
		return 0, nil, err
	}
	t := p.s.State.Change(p.id)
	t.SetMeta(metaDestination, []byte(destination))
	if err := t.Commit(nil); err != nil {
		return 0, nil, err
	}
	p.counted = known
	if err := p.takeCensus(ctx); err != nil {
		return 0, nil, err
	}
	if err := p.memory.load(); err != nil {
		return 0, nil, err
	}
	p.track.next, p.committed = from, from
	if !known {
		p.committed = -1 // so that even an empty partition gets a position
	}
	return from, fold, nil
}

// position returns where to go on, or the start, and whether the memory is good.
func (p *partition) position(b stream.Partition, destination string) (from int64, known bool, err error) {
	stored, known, err := p.s.State.Position(p.id)
	if err != nil {
		return 0, false, err
	}
	of, err := p.meta(metaDestination)
	if err != nil {
		return 0, false, err
	}
	why := ""
	switch {
	case known && stored.Offset > b.End:
		why = "the log is shorter than it was"
	case known && time.Since(stored.CommittedAt) > positionAge:
		why = "it is too old to trust"
	case of != "" && of != destination:
		why = "the destination is another cluster"
	case !known && of != "":
		why = "its rebuilding was not finished"
	}
	if why != "" {
		p.log.Warn("what is remembered of the partition is dropped", "reason", why)
		if err := p.s.State.Drop(p.id); err != nil {
			return 0, false, err
		}
		known = false
	}
	if !known {
		// A topic that was recreated leaves the memory of the old one behind.
		return b.Start, false, p.s.State.DropOthers(b.TopicID)
	}
	return max(stored.Offset, b.Start), true, nil
}

func (p *partition) meta(name string) (string, error) {
	b, _, err := p.s.State.Meta(p.id, name)
	return string(b), err
}

// takeCensus rebuilds lost state, once it is known whose (guarantee 7). Nothing
// of the partition has been done before.
func (p *partition) takeCensus(ctx context.Context) error {
	if p.counted || p.owned.Load() == nil {
		return nil
	}
	p.counted = true
	return p.s.census.rebuild(ctx, p)
}

// comesAfter notes the former sources: what was written for them is ours still.
func (p *partition) comesAfter(former []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.former, former) {
		p.former, p.metas[metaFormer] = former, []byte(strings.Join(former, " "))
	}
}

// own sets whose objects the partition's are. Without a source in the log, the
// settings may tell; else the source is looked for where it must be, if it is
// needed now, or waited for.
func (p *partition) own(ctx context.Context, source string, needed bool) error {
	c := p.s.Settings.Load().Config
	if source == "" {
		source = c.SourceUID
	}
	var err error
	for wait := 100 * time.Millisecond; source == "" && needed; wait = min(2*wait, 5*time.Second) {
		for _, topic := range []string{p.s.Topics.Changes, p.s.Topics.Desired} {
			if source, err = p.s.sourceIn(ctx, topic, p.id.Number); err != nil || source != "" {
				break
			}
		}
		if err != nil {
			return err
		}
		if source == "" {
			p.log.Warn("there are desired states and no configuration: it is waited for, since it tells whose objects they are")
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	switch source {
	case "":
		return nil
	case p.destination:
		// Guarantee 9: the source is never written to. Whoever starts us looks as
		// well, but may be too late.
		return fmt.Errorf("source and destination are the same cluster (%s): nothing is written", source)
	}
	c.SourceUID = source
	o := topology.OwnerOf(c)
	p.owned.Store(&o)
	p.mu.Lock()
	p.metas[metaSource] = []byte(source)
	p.mu.Unlock()
	return nil
}

// sourceIn is the source cluster of the last configuration in a partition.
func (s *Synchronizer) sourceIn(ctx context.Context, topic string, number int32) (source string, err error) {
	b, err := s.Log.Bounds(ctx, topic, number)
	if err != nil {
		return "", err
	}
	key := topology.ControlKey(topology.Configured, "")
	err = s.Log.Read(ctx, topic, number, b.Start, b.End, func(k *kgo.Record) error {
		if string(k.Key) == key {
			if r, err := topology.Decode(k); err == nil {
				if c, err := configOf(&r); err == nil {
					source = c.SourceUID
				}
			}
		}
		return nil
	})
	return source, err
}

func configOf(r *topology.Record) (c topology.Config, err error) {
	if err = json.Unmarshal(r.Body, &c); err == nil && c.SourceUID == "" {
		err = errors.New("a configuration without the source's UID")
	}
	return c, err
}
