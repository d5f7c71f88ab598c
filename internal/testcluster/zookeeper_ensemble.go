package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ZooKeeperEnsemble is several servers that hold one tree. Each is stopped, killed
// and frozen on its own.
type ZooKeeperEnsemble struct {
	// Servers are its members.
	Servers []*ZooKeeper

	dir     string
	ownsDir bool
	ports   []*port
}

// StartZooKeeperEnsemble starts so many servers and returns once each serves. ctx
// bounds the start only; end it with Close. 2 to 5 s for three.
func StartZooKeeperEnsemble(ctx context.Context, size int, config ZooKeeperConfig) (_ *ZooKeeperEnsemble, err error) {
	e := &ZooKeeperEnsemble{dir: config.Dir}
	if e.dir == "" {
		if e.dir, err = os.MkdirTemp("", "afterimage-zookeeper-"); err != nil {
			return nil, fmt.Errorf("making the ensemble's folder: %w", err)
		}
		e.ownsDir = true
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	runtime, err := findJava(ctx, zooKeeperScript, config.Jars, config.Progress)
	if err != nil {
		return nil, err
	}
	var security *zooKeeperTLS
	if config.TLS {
		if security, err = newZooKeeperTLS(); err != nil {
			return nil, err
		}
	}
	members, err := e.members(size)
	if err != nil {
		return nil, err
	}
	for i := range size {
		z := &ZooKeeper{config: config, java: runtime, tls: security, identity: i + 1, members: members}
		z.config.Dir = filepath.Join(e.dir, strconv.Itoa(z.identity))
		e.Servers = append(e.Servers, z)
		if err := z.prepare(); err != nil {
			return nil, err
		}
	}
	return e, e.Start(ctx)
}

// members take two ports for each server, for what members tell each other.
func (e *ZooKeeperEnsemble) members(size int) ([]string, error) {
	var members []string
	for range size {
		var numbers [2]int
		for i := range numbers {
			p, err := takePort()
			if err != nil {
				return nil, err
			}
			e.ports = append(e.ports, p)
			numbers[i] = p.number
		}
		members = append(members, fmt.Sprintf("127.0.0.1:%d:%d", numbers[0], numbers[1]))
	}
	return members, nil
}

// Start starts every member that does not run and returns once each serves.
func (e *ZooKeeperEnsemble) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, z := range e.Servers {
		if z.process != nil && z.process.alive() {
			continue
		}
		if err := z.launch(); err != nil {
			return err
		}
	}
	for _, z := range e.Servers {
		if err := z.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Addrs are the members' addresses for clients without TLS.
func (e *ZooKeeperEnsemble) Addrs() []string {
	var addresses []string
	for _, z := range e.Servers {
		addresses = append(addresses, z.Addr())
	}
	return addresses
}

// Leader is the member that leads now. It waits for an election, until ctx ends.
func (e *ZooKeeperEnsemble) Leader(ctx context.Context) (*ZooKeeper, error) {
	for {
		var errs []error
		for _, z := range e.Servers {
			status, err := z.Status(ctx)
			if status.Mode == "leader" {
				return z, nil
			}
			errs = append(errs, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the ensemble has no leader: %w", errors.Join(append(errs, ctx.Err())...))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// KillLeader ends the member that leads, as a crash would, and returns it.
func (e *ZooKeeperEnsemble) KillLeader(ctx context.Context) (*ZooKeeper, error) {
	leader, err := e.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return leader, leader.Kill()
}

// Close ends all members at once and removes their data unless
// ZooKeeperConfig.Dir was given.
func (e *ZooKeeperEnsemble) Close() error {
	var errs []error
	for _, z := range e.Servers {
		errs = append(errs, z.Close())
	}
	for _, p := range e.ports {
		p.release()
	}
	if e.ownsDir {
		errs = append(errs, os.RemoveAll(e.dir))
	}
	return errors.Join(errs...)
}
