package archiver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// recallConfig puts the configuration in force that was before. It compiled
// then; a newer program may refuse it, and waits for another as if there were none.
func (p *partition) recallConfig() error {
	config, err := p.loadConfig()
	if err != nil || config.Generation == 0 {
		return err
	}
	rules, err := topology.Compile(config)
	if err != nil {
		p.refuse(config.Generation, err)
		return nil
	}
	p.rules.Store(rules)
	return nil
}

func (p *partition) refuse(generation int64, err error) {
	p.rejected = generation
	p.mu.Lock()
	p.refused = fmt.Sprintf("generation %d: %v", generation, err)
	p.mu.Unlock()
	p.log.Error("the configuration in the log does not compile; the one before it stays", "generation", generation, logging.Err(err))
}

// adopt puts a configuration in force and has everything gone over again: the
// position goes back to the start of changes. What is remembered stays.
func (p *partition) adopt(ctx context.Context, config *topology.Config) error {
	rules, err := topology.Compile(*config)
	if err != nil {
		p.refuse(config.Generation, err)
		return nil
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing the configuration to the state: %w", err)
	}
	if p.in, err = p.a.Log.Bounds(ctx, p.a.Topics.Changes, p.number); err != nil {
		return fmt.Errorf("reading the bounds of changes: %w", err)
	}
	c := p.a.State.Change(p.id)
	c.SetMeta(metaConfig, raw)
	if err := c.Commit(&state.Position{Offset: p.in.Start, LeaderEpoch: -1, CommittedAt: time.Now()}); err != nil {
		return err
	}
	p.mu.Lock()
	p.next, p.refused = p.in.Start, ""
	p.mu.Unlock()
	p.rules.Store(rules)
	level := slog.LevelInfo
	if p.a.saidGeneration.Swap(config.Generation) == config.Generation {
		level = slog.LevelDebug
	}
	p.log.Log(ctx, level, "configuration in force", "generation", config.Generation)
	return nil
}

// configuration reads a Configured record; nil where it is none.
func configuration(r *topology.Record) *topology.Config {
	var c topology.Config
	if r.Kind != topology.Configured || json.Unmarshal(r.Body, &c) != nil {
		return nil
	}
	return &c
}

// supersedes tells whether a configuration is newer than the one in force.
func (p *partition) supersedes(c *topology.Config) bool {
	if c.Generation <= p.rejected {
		return false
	}
	rules := p.rules.Load()
	return rules == nil || c.Generation > rules.Config().Generation
}
