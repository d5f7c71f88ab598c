package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/internal/socket"
	"github.com/afterimage-dr/afterimage/internal/stream"
)

// logSocket is where a process offers its embedded log to others of its user.
const logSocket = "log.sock"

// serveLog offers the embedded log in the data directory.
func serveLog(dir string, e *stream.Embedded) (stop func(), err error) {
	l, err := socket.Listen(dir, logSocket)
	if err != nil {
		return nil, fmt.Errorf("socket of the log: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Serve(l)
	}()
	return func() {
		_ = l.Close()
		<-done
	}, nil
}

// LogOptions say which log a command works on.
type LogOptions struct {
	// Brokers (host:port) of Kafka or Redpanda; none: the embedded log of DataDir.
	Brokers []string
	DataDir string
	// Create makes the data directory, and the embedded log in it, where there is none.
	Create bool
	// Output takes the log lines; nil: none.
	Output io.Writer
	Level  slog.Level
}

// LogAccess is a command's access to the log.
type LogAccess struct {
	Client *stream.Client
	// Embedded: it is the embedded log of DataDir; Floor is its history floor.
	Embedded bool
	Floor    time.Time
	// Alone: nobody else works on the data directory while this is open, so that
	// the process named Instance is certainly not running. Else another process
	// has it open (and answers on its status socket), or none is involved.
	Alone    bool
	Instance string

	closers []func()
}

// OpenLog opens the log for a command that reads it beside, or instead of, a
// running afterimage: real brokers, else the embedded log of the data directory,
// which a running process lends. A data directory without a log is an error.
func OpenLog(o LogOptions) (_ *LogAccess, err error) {
	if o.Output == nil {
		o.Output = io.Discard
	}
	a := &LogAccess{}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	dial := stream.Brokers(o.Brokers...)
	if err := a.hold(o.DataDir, o.Create); err != nil && len(o.Brokers) == 0 {
		return nil, err
	}
	if len(o.Brokers) == 0 {
		if dial, err = a.embedded(o.DataDir, o.Create); err != nil {
			return nil, err
		}
	}
	dial.Options = append(dial.Options, logging.Kafka(logging.New(o.Output, o.Level, "stream", "")))
	if a.Client, err = stream.NewClient(dial, cmp.Or(a.Instance, "afterimage")+"-"+random(4)); err != nil {
		return nil, fmt.Errorf("client of the log: %w", err)
	}
	a.Client.SetLogger(logging.New(o.Output, o.Level, "stream", ""))
	a.closers = append(a.closers, a.Client.Close)
	return a, nil
}

// hold takes the data directory if nobody has it.
func (a *LogAccess) hold(path string, create bool) error {
	if !create && !exists(filepath.Join(path, instanceFile)) {
		return fmt.Errorf("data directory %s: there is no log: \"afterimage run\" has not run with it; name its --data-dir, or the --brokers it uses", path)
	}
	dir, err := openDataDir(path)
	if errors.Is(err, ErrInUse) {
		return nil
	}
	if err != nil {
		return err
	}
	a.Alone, a.Instance = true, dir.instance
	a.closers = append(a.closers, dir.close)
	return nil
}

// embedded dials the log of a data directory: one's own, or that of the process
// that holds it.
func (a *LogAccess) embedded(path string, create bool) (dial stream.Dial, err error) {
	a.Embedded = true
	folder := filepath.Join(path, logDir)
	if a.Alone && !create && !exists(folder) {
		return dial, fmt.Errorf("data directory %s: there is no embedded log: its afterimage uses brokers; name them with --brokers", path)
	}
	if a.Floor, err = stream.HistoryFloorIn(folder); err != nil {
		return dial, fmt.Errorf("history of the log: %w", err)
	}
	if !a.Alone {
		at, err := socket.Path(path, logSocket)
		if err != nil {
			return dial, err
		}
		if !exists(at) {
			return dial, fmt.Errorf("data directory %s is held by an afterimage that offers no embedded log: if it uses brokers, name them with --brokers; if it is just starting, or is another command such as sync, try again", path)
		}
		return stream.Socket(at), nil
	}
	e, err := startEmbedded(folder, false)
	if err != nil {
		return dial, fmt.Errorf("embedded log: %w", err)
	}
	a.closers = append(a.closers, func() { _ = e.Close() })
	return e.Dial(), nil
}

// Member names this command in consumer groups: as the process whose data directory
// it has, or as nobody else.
func (a *LogAccess) Member() string { return cmp.Or(a.Instance, "afterimage-"+random(4)) }

// Close gives everything back.
func (a *LogAccess) Close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	a.closers = nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
