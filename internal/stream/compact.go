package stream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The broker cleans a partition by removing its segment files and writing new
// ones. A SIGKILL in between would lose the partition. So before, every segment
// is linked into a second folder; afterwards that folder is removed. If it is
// still there at start, each partition that does not reach as far as its links
// is put back. (The cleaner keeps the last batch and writes it last, so a
// partition that reaches that far was written whole. A power loss knows no order:
// after one, all of them are put back.)
const (
	linksDir   = "compacting"
	linksTmp   = "compacting.tmp"
	floorFile  = "history.json"
	partitions = "partitions"
	segmentExt = ".dat"
	// sizeEvery is how often the size of the log is looked at.
	sizeEvery = 30 * time.Second
	// growth is by how much the log must have grown since the last cleaning.
	growth = 3
)

type history struct {
	// Floor: the moment of the last cleaning; versions of before may be gone.
	Floor time.Time `json:"floor"`
	// Bytes of the log after it.
	Bytes int64 `json:"bytes"`
}

// HistoryFloor is the moment of the last cleaning: of what was overwritten
// before it nothing is left but the newest. Zero if the log was never cleaned.
func (e *Embedded) HistoryFloor() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.floor
}

// Compact cleans compacted topics now. It also runs by itself when the log has
// grown enough. Appends wait meanwhile.
func (e *Embedded) Compact() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cluster == nil {
		return ErrClosed
	}
	// No append may begin a segment after its partition was linked. Readers and
	// groups go on until the cleaning itself.
	hold := e.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	defer hold.Remove()
	// The floor first: a crash in between must not promise history that is gone.
	if err := e.saveFloor(history{Floor: time.Now().UTC(), Bytes: e.after}); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if err := e.link(); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	e.cluster.Compact()
	size, err := folderSize(filepath.Join(e.logDir(), partitions))
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if err := e.saveFloor(history{Floor: e.floor, Bytes: size}); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	// The segments that were replaced may be given up only when those that replace
	// them would outlast a power loss: it would cost the whole log, not its end.
	if err := syncTree(filepath.Join(e.logDir(), partitions)); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if err := e.unlink(); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

func (e *Embedded) watchSize() {
	defer close(e.done)
	t := time.NewTicker(sizeEvery)
	defer t.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-t.C:
		}
		size, err := folderSize(filepath.Join(e.logDir(), partitions))
		if err != nil || e.opts.CompactBytes < 0 {
			continue
		}
		e.mu.Lock()
		due := e.cluster != nil && size >= e.opts.CompactBytes && size >= growth*e.after
		e.mu.Unlock()
		if due {
			_ = e.Compact() // tried again at the next tick
		}
	}
}

func (e *Embedded) loadFloor() error {
	h, err := readFloor(e.dir)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.floor, e.after = h.Floor, h.Bytes
	e.mu.Unlock()
	return nil
}

func readFloor(dir string) (h history, err error) {
	b, err := os.ReadFile(filepath.Join(dir, floorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("%s: %w", floorFile, err)
	}
	return h, nil
}

// saveFloor is called with mu held.
func (e *Embedded) saveFloor(h history) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := filepath.Join(e.dir, floorFile)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	e.floor, e.after = h.Floor, h.Bytes
	return nil
}

// link makes the second folder, complete or not at all.
func (e *Embedded) link() error {
	tmp, final := filepath.Join(e.dir, linksTmp), filepath.Join(e.dir, linksDir)
	if err := errors.Join(os.RemoveAll(tmp), os.RemoveAll(final)); err != nil {
		return err
	}
	if err := linkTree(filepath.Join(e.logDir(), partitions), tmp); err != nil {
		return err
	}
	return os.Rename(tmp, final)
}

// unlink removes the second folder: like link, whole or not at all.
func (e *Embedded) unlink() error {
	tmp, final := filepath.Join(e.dir, linksTmp), filepath.Join(e.dir, linksDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Rename(final, tmp); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

func linkTree(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && path == from {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// recoverCompaction puts right what a crash during Compact left.
func (e *Embedded) recoverCompaction() error {
	links := filepath.Join(e.dir, linksDir)
	if err := os.RemoveAll(filepath.Join(e.dir, linksTmp)); err != nil {
		return err
	}
	dirs, err := os.ReadDir(links)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		saved, live := filepath.Join(links, d.Name()), filepath.Join(e.logDir(), partitions, d.Name())
		want, err := logEnd(saved)
		if err != nil {
			return err
		}
		got, err := logEnd(live)
		if err != nil {
			return err
		}
		// After a power loss the end may be on disk and what is before it not.
		if got >= want && !e.cut {
			continue
		}
		if err := os.RemoveAll(live); err != nil {
			return err
		}
		// Linked, not moved: a second crash here finds the links still there.
		if err := linkTree(saved, live); err != nil {
			return err
		}
	}
	return e.unlink()
}

// logEnd returns the offset after the last whole batch of a partition's folder,
// 0 where there is none.
func logEnd(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var bases []int64
	for _, d := range entries {
		name, isSegment := strings.CutSuffix(d.Name(), segmentExt)
		if base, err := strconv.ParseInt(name, 10, 64); isSegment && err == nil {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	// The newest segment may hold nothing whole yet: then the one before tells.
	for _, base := range slices.Backward(bases) {
		end, err := segmentEnd(filepath.Join(dir, strconv.FormatInt(base, 10)+segmentExt))
		if end > 0 || err != nil {
			return end, err
		}
	}
	return 0, nil
}

func segmentEnd(path string) (end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	// A batch: base offset (8), length (4), …, last offset delta (4 at 23).
	const head = 27
	var b [head]byte
	for at := int64(0); at+head <= info.Size(); {
		if _, err := f.ReadAt(b[:], at); err != nil {
			return 0, err
		}
		size := 12 + int64(int32(binary.BigEndian.Uint32(b[8:])))
		if size < head || at+size > info.Size() {
			break
		}
		end = int64(binary.BigEndian.Uint64(b[:])) + int64(int32(binary.BigEndian.Uint32(b[23:]))) + 1
		at += size
	}
	return end, nil
}

func folderSize(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed on the way
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n, err
}
