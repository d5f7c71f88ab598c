package cli

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/afterimage-dr/afterimage/internal/nodecopy"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// bar shows progress on a terminal, and nothing elsewhere. What is written to it, log
// lines, goes before it.
type bar struct {
	w  io.Writer
	mu sync.Mutex
	b  *progressbar.ProgressBar
	// total as far as it is known.
	total int64
}

func newBar(w io.Writer) *bar { return &bar{w: w} }

// barWidth in characters.
const barWidth = 30

// nodes shows how far a copy has come. How many nodes there are is known when all are
// read: until then the bar is about those that are.
func (b *bar) nodes(p nodecopy.Progress) {
	done := p.Created + p.Updated + p.Deleted + p.Unchanged + p.Skipped + p.Failed
	b.show("nodes", done, p.Read)
}

// run shows how far a run has come whose plugin tells nothing more.
func (b *bar) run(s v1alpha1.SynchronizationStatus) {
	r := s.Result
	b.show("objects", r.Created+r.Updated+r.Deleted+r.Unchanged+r.Skipped+r.Failed, 0)
}

func (b *bar) show(what string, done, of int64) {
	if !isTerminal(b.w) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b == nil {
		b.b = progressbar.NewOptions64(1, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(barWidth),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.total = max(b.total, of, done)
	b.b.ChangeMax64(b.total + 1) // one more: a bar that is full ends
	_ = b.b.Set64(done)
}

// Write takes a log line.
func (b *bar) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b != nil {
		_ = b.b.Clear()
	}
	return b.w.Write(line)
}

func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b != nil {
		_ = b.b.Clear()
		b.b = nil
	}
}
