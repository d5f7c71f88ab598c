package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// open opens what every LiveSynchronization of the process shares.
func open(o Options, dir *dataDir, logger *slog.Logger) (_ *parts, closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	dial := stream.Brokers(o.Brokers...)
	if len(o.Brokers) == 0 {
		e, err := startEmbedded(filepath.Join(dir.path, logDir), o.Fsync)
		if err != nil {
			return nil, nil, fmt.Errorf("embedded log: %w", err)
		}
		closers = append(closers, func() { _ = e.Close() })
		dial = e.Dial()
		stop, err := serveLog(dir.path, e)
		if err != nil {
			return nil, nil, err
		}
		closers = append(closers, stop)
		if e.MayHaveLost() {
			// Guarantee 7: its positions are in doubt, so the memory goes.
			logger.Warn("the machine went down while the log was open: the newest records may be lost, everything is compared anew")
			if err := errors.Join(os.RemoveAll(filepath.Join(dir.path, stateDir)), e.Forgotten()); err != nil {
				return nil, nil, fmt.Errorf("memory: %w", err)
			}
		}
	}
	// Every client made says its warnings in our form.
	dial.Options = append(dial.Options, logging.Kafka(logging.New(o.Output, o.Level, "stream", "")))
	client, err := stream.NewClient(dial, dir.instance)
	if err != nil {
		return nil, nil, fmt.Errorf("client of the log: %w", err)
	}
	client.SetLogger(logging.New(o.Output, o.Level, "stream", ""))
	closers = append(closers, client.Close)
	memory, err := openState(filepath.Join(dir.path, stateDir), logger)
	if err != nil {
		return nil, nil, err
	}
	closers = append(closers, func() { _ = memory.Close() })

	shared := &shared{client: client, memory: memory, embedded: len(o.Brokers) == 0, instance: dir.instance, incarnation: random(8), session: cmp.Or(o.Session, DefaultSession)}
	return &parts{
		log: client,
		ensure: func(ctx context.Context, t topology.Topics) ([]string, error) {
			return shared.ensure(ctx, t, o.Partitions)
		},
		connect: func(c *rest.Config) (cluster, *kube.Client, error) {
			k, err := kube.New(c)
			return k, k, err
		},
		logger: func(process, consumerID string, level slog.Leveler) *slog.Logger {
			return logging.New(o.Output, level, process, consumerID)
		},
		leveler: func(level string) slog.Leveler {
			if l, err := logging.ParseLevel(level); err == nil && level != "" {
				return l
			}
			return o.Level
		},
		nodes:     shared.nodes,
		healthy:   client.Healthy,
		factories: shared.factories(),
	}, closeAll, nil
}

// openState opens the memory. Damage mends itself in there (guarantee 7); any
// other trouble (a full disk, too many open files) says nothing about what is
// remembered, which must not be thrown away for it.
func openState(dir string, logger *slog.Logger) (*state.Store, error) {
	memory, err := state.OpenWith(dir, logger)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	if aside := memory.Damaged(); aside != "" {
		logger.Warn("memory was damaged, everything is compared anew", slog.String("putAside", aside))
	}
	return memory, nil
}
