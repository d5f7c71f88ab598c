package stream

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// runningFile holds, while a broker runs on a folder, the boot of the machine it
// runs in. One that is found at start tells how the last run ended: with the
// process (the same boot), or with the machine.
const runningFile = "running"

// bootID identifies the boot of the machine; empty where the system has none,
// and then nothing is concluded. A variable for tests.
var bootID = func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// MayHaveLost tells whether the last run ended with the machine, so that the
// newest records may be gone (never with SyncWrites). The log has no trace of
// that: the offsets are given again, to other records. A position from before is
// worth nothing then, even where it lies within the log.
func (e *Embedded) MayHaveLost() bool { return e.cut }

// markRunning finds out how the last run ended, and notes that one runs. It waits
// for the disk: the note must outlast what it is about.
func (e *Embedded) markRunning() error {
	path := filepath.Join(e.dir, runningFile)
	last, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	boot := bootID()
	if was := strings.TrimSpace(string(last)); err == nil && was != boot && !e.opts.SyncWrites {
		// Kept until it was acted upon: see Forgotten.
		e.cut = true
		return nil
	}
	return writeSynced(path, boot)
}

// Forgotten says that whatever rested on positions in the log has been dropped
// after MayHaveLost; until then every start tells it again.
func (e *Embedded) Forgotten() error {
	e.cut = false
	return writeSynced(filepath.Join(e.dir, runningFile), bootID())
}

func (e *Embedded) markStopped() error {
	if e.cut {
		return nil
	}
	if err := os.Remove(filepath.Join(e.dir, runningFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeSynced replaces a file, durably.
func writeSynced(path, content string) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

// syncTree waits until every file and folder below a folder is on disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed on the way
			}
			return err
		}
		return syncPath(path)
	})
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
