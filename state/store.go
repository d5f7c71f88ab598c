package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// ErrInUse is wrapped by the error of Open when another process has the folder.
var ErrInUse = errors.New("state folder is in use by another process")

const (
	dbFolder   = "badger"
	lockFile   = "lock"
	damagedTag = ".damaged-"

	// Small on purpose: entries are some 200 bytes, and the memory of a process
	// must not grow with what it remembers.
	memTableSize     = 4 << 20
	valueLogFileSize = 16 << 20
	// valueThreshold: only larger values go to the value log. Ours never are, so
	// the value log stays empty and needs no collecting.
	valueThreshold = 256 << 10

	gcInterval = 10 * time.Minute
)

// Store is a Badger database shared by the stages of one process. Safe for
// concurrent use.
type Store struct {
	db      *badger.DB
	lock    *os.File
	log     *slog.Logger
	damaged string

	stop chan struct{}
	gc   sync.WaitGroup
	once sync.Once
	err  error
}

// Open opens or creates the database in a folder. A folder that another process
// has open is refused with ErrInUse. A damaged database is moved aside, to
// `badger.damaged-<time>` in the folder, and an empty one begun (guarantee 7);
// Damaged tells. Only the newest damaged copy is kept. Other trouble (no
// permission, disk full) is returned, the database left as it is.
func Open(dir string) (*Store, error) { return OpenWith(dir, slog.Default()) }

// OpenWith is Open with a logger for what Badger has to say (warnings and errors).
func OpenWith(dir string, logger *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	lock, err := takeLock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("state folder %s: %w", dir, err)
	}
	s := &Store{lock: lock, log: logger, stop: make(chan struct{})}
	path := filepath.Join(dir, dbFolder)
	try := attempts{filepath.Join(dir, attemptsFile)}
	tooMany, err := try.begin()
	if err == nil && tooMany {
		err = errors.New("the process died repeatedly while it opened the database")
	} else if err == nil {
		s.db, err = openDB(path, logger)
		try.end()
	}
	if err != nil && !environmental(err) {
		logger.Warn("local state is damaged and was moved aside; it is rebuilt from the log", "path", path, "error", err.Error())
		s.damaged, err = moveAside(path)
		if err == nil {
			s.db, err = openDB(path, logger)
			try.end()
		}
	}
	if err == nil {
		err = s.finishDrops()
		if err != nil {
			_ = s.db.Close() // the first error is the one to tell
		}
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open state in %s: %w", dir, err)
	}
	s.gc.Add(1)
	go s.collect()
	return s, nil
}

// Damaged returns where a damaged database was moved by Open; empty if the
// database was in order.
func (s *Store) Damaged() string { return s.damaged }

// Close closes it. It waits for running transactions.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.stop)
		s.gc.Wait()
		s.err = s.db.Close()
		_ = s.lock.Close() // releases the flock
	})
	return s.err
}

// Stage returns the part of the store that belongs to one stage of one
// LiveSynchronization. The name must not hold a zero byte.
func (s *Store) Stage(name string) *Stage {
	if strings.IndexByte(name, 0) >= 0 || name == "" {
		panic(fmt.Sprintf("state: bad stage name %q", name))
	}
	return &Stage{store: s, prefix: append([]byte(name), 0)}
}

func (s *Store) collect() {
	defer s.gc.Done()
	t := time.NewTicker(gcInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			// An error here says that there was nothing to collect.
			for s.db.RunValueLogGC(0.5) == nil {
			}
		}
	}
}

// openDB turns panics, with which Badger answers some kinds of damage, into errors.
func openDB(path string, logger *slog.Logger) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("badger: %v", r)
		}
	}()
	opts := badger.DefaultOptions(path).
		WithLogger(badgerLog{logger}).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogFileSize).
		// Uncompressed tables are read through the page cache: no block cache needed.
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumCompactors(2).
		WithNumGoroutines(2).
		WithMetricsEnabled(false).
		// One writer a partition (guarantee 4): nothing to detect.
		WithDetectConflicts(false).
		// Tables were checked by verify, when they could still be moved aside.
		WithChecksumVerificationMode(options.NoVerification).
		WithSyncWrites(false)
	if err := verify(path, opts); err != nil {
		return nil, err
	}
	return badger.Open(opts)
}

// environmental tells errors that say nothing about the database's content.
func environmental(err error) bool {
	for _, e := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EROFS, syscall.ENOMEM, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return strings.Contains(err.Error(), "directory lock") || strings.Contains(err.Error(), "no space left")
}

func moveAside(path string) (string, error) {
	old, _ := filepath.Glob(path + damagedTag + "*") // the pattern is constant
	to := path + damagedTag + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("move damaged state aside: %w", err)
	}
	for _, o := range old {
		_ = os.RemoveAll(o) // a copy for the curious, not worth failing for
	}
	return to, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// badgerLog passes on what matters: Badger calls everything it does "info".
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any) {
	l.log.Error("state database error", "detail", strings.TrimSpace(fmt.Sprintf(f, a...)))
}

func (l badgerLog) Warningf(f string, a ...any) {
	l.log.Warn("state database warning", "detail", strings.TrimSpace(fmt.Sprintf(f, a...)))
}
func (badgerLog) Infof(string, ...any)  {}
func (badgerLog) Debugf(string, ...any) {}
