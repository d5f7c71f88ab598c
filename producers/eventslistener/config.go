package eventslistener

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/topology"
)

// configuration is what the log was last told.
type configuration struct {
	mu sync.Mutex
	// uid of the source cluster of this round.
	uid string
	// current is the configuration in every partition; its Generation is 0 while
	// it is not known to be there.
	current topology.Config
	hash    string
	// atLeast is a generation another writer used.
	atLeast int64
	// refused is why the settings cannot be put into the log.
	refused string
}

// spoil notes that another writer's record stands behind ours in a partition.
func (c *configuration) spoil(r topology.Record) {
	var other topology.Config
	if json.Unmarshal(r.Body, &other) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.atLeast = max(c.atLeast, other.Generation)
	c.hash = ""
}

// identify finds out which cluster the source is, and waits until it is the one
// in the log or a person has confirmed the change.
func (t *term) identify(ctx context.Context) (settings.Settings, error) {
	logged := t.loggedSource()
	wait := backoff{max: t.opts.Retry}
	var other logging.State
	for {
		s, changed := t.opts.Settings.Get()
		uid, err := t.source.ClusterUID(ctx)
		switch {
		case ctx.Err() != nil:
			return s, context.Cause(ctx)
		case err != nil:
			t.l.health.Failing(t.log, reasonOf(err), "cannot tell which cluster the source is", t.cluster(), logging.Err(err))
			t.halt("")
			wait.after(ctx, err)
			continue
		}
		known := logged
		if known == "" {
			known = s.Config.SourceUID
		}
		if known == "" || known == uid {
			t.config.mu.Lock()
			t.config.uid = uid
			t.config.mu.Unlock()
			t.halt("")
			other.Working(t.log, "the source is the known cluster again", t.cluster())
			return s, nil
		}
		if s.ConfirmSource == uid {
			t.halt("")
			return s, t.changeSource(ctx, known, uid)
		}
		message := fmt.Sprintf("the source is cluster %s, but what is in the log came from cluster %s: nothing is read or deleted; "+
			"if that is meant, confirm it with the annotation afterimage.io/confirm-source: %q", uid, known, uid)
		t.halt(message)
		other.Failing(t.log, uid, "another cluster answers as the source", t.cluster(), logging.Err(fmt.Errorf("%s", message)))
		timer := time.NewTimer(t.opts.Retry)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// changeSource makes a confirmed other cluster the source: under a new epoch,
// since its resourceVersions mean nothing beside the old ones.
func (t *term) changeSource(ctx context.Context, from, to string) error {
	t.config.mu.Lock()
	t.config.uid = to
	t.config.mu.Unlock()
	return t.openEpoch(ctx, fmt.Sprintf("the source was confirmed to change from cluster %s to %s", from, to))
}

// loggedSource is the source of the last configuration in the log.
func (t *term) loggedSource() string {
	t.config.mu.Lock()
	uid := t.config.uid
	t.config.mu.Unlock()
	if uid != "" {
		return uid
	}
	var generation int64
	for _, p := range t.m.parts {
		if p.facts.Generation > generation {
			generation, uid = p.facts.Generation, p.facts.SourceUID
		}
	}
	return uid
}

// logged is the last configuration in the log, as far as its clusters go.
func (t *term) logged() (c topology.Config) {
	if told := t.config.named(); told.Generation != 0 {
		return told
	}
	for _, p := range t.m.parts {
		p.mu.Lock()
		if f := &p.facts; f.Generation > c.Generation {
			c.Generation, c.SourceUID, c.DestinationUID, c.FormerSourceUIDs = f.Generation, f.SourceUID, f.DestinationUID, f.FormerSourceUIDs
		}
		p.mu.Unlock()
	}
	return c
}

// formerSources are those of the last configuration, and its own if that is
// another one now.
func formerSources(last topology.Config, uid string) []string {
	var out []string
	for _, former := range append(slices.Clone(last.FormerSourceUIDs), last.SourceUID) {
		if former != "" && former != uid && !slices.Contains(out, former) {
			out = append(out, former)
		}
	}
	return out
}

func (t *term) halt(message string) {
	t.mu.Lock()
	t.halted = message
	t.mu.Unlock()
}

// sameCluster tells whether the source is still the cluster of this round. It is
// asked before anything is concluded from what the source does not show.
func (t *term) sameCluster(ctx context.Context) error {
	uid, err := t.source.ClusterUID(ctx)
	if err != nil {
		return err
	}
	t.config.mu.Lock()
	known := t.config.uid
	t.config.mu.Unlock()
	if uid != known {
		err := fmt.Errorf("the source is cluster %s now, not %s: %w", uid, known, errBeginAgain)
		t.interrupt(err)
		return err
	}
	return nil
}

// configure puts the configuration into every partition of changes when it
// computes something else than the one there, or is missing in one of them.
func (t *term) configure(ctx context.Context, s settings.Settings) error {
	config := s.Config
	config.Replication = t.resolver.resolve(ctx, s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	logged := t.logged()
	if config.DestinationUID == "" {
		// Not reached yet: the loop guard goes on with the one it was.
		config.DestinationUID = logged.DestinationUID
	}
	c := &t.config
	c.mu.Lock()
	config.SourceUID, config.Generation = c.uid, 0
	config.FormerSourceUIDs = formerSources(logged, c.uid)
	atLeast, same := c.atLeast, config.Hash() == c.hash
	c.mu.Unlock()
	if same {
		return nil
	}
	rules, err := topology.Compile(config)
	c.refuse(err)
	if err != nil {
		// The last good one stays; what reads manifests has checked them, so this
		// is said loudly and in status.
		t.log.ErrorContext(ctx, "the configuration cannot be used", logging.Err(err))
		if t.rules.Load() == nil {
			return fmt.Errorf("the configuration cannot be used: %w", err)
		}
		return nil
	}
	hash := config.Hash()
	generation, everywhere := t.inLog(hash)
	if !everywhere || atLeast > 0 {
		generation = max(time.Now().Unix(), generation+1, atLeast+1)
	}
	config.Generation = generation
	if !everywhere || atLeast > 0 {
		body, _ := json.Marshal(configBody{config, t.resolver.learned()}) // plain data always marshals
		t.log.InfoContext(ctx, "putting the configuration into the log", "generation", generation, "contentHash", hash, logging.LastUpdate(s))
		err := t.m.broadcast(ctx, topology.Record{
			Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured,
			Version: topology.Version{Epoch: t.epoch.Load()}, Hash: hash, Body: body,
		})
		if err != nil {
			return err
		}
	}
	first := t.rules.Swap(rules) == nil
	c.mu.Lock()
	c.current, c.hash = config, hash
	if c.atLeast == atLeast {
		c.atLeast = 0
	}
	c.mu.Unlock()
	if !first {
		t.relist()
	}
	return nil
}

func (c *configuration) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = ""
	if err != nil {
		c.refused = err.Error()
	}
}

// inLog is the highest generation in the log, and whether every partition holds
// it with this hash.
func (t *term) inLog(hash string) (generation int64, everywhere bool) {
	told := t.config.named().Generation
	generation, everywhere = told, true
	all := make([]facts, len(t.m.parts))
	for i, p := range t.m.parts {
		p.mu.Lock()
		all[i] = p.facts
		p.mu.Unlock()
		generation = max(generation, all[i].Generation)
	}
	for _, f := range all {
		everywhere = everywhere && f.ConfigHash == hash && f.Generation == generation
	}
	// Once this term has told the log something, its facts may lag behind: what
	// is asked for then differs from that, or configure would not ask.
	return generation, everywhere && told == 0
}

// named is the configuration for its namespace and name.
func (c *configuration) named() topology.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}
