package cli

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/afterimage-dr/afterimage/internal/nodecopy"
)

// bar shows progress on a terminal, and nothing elsewhere. What is written to it, log
// lines, goes before it.
type bar struct {
	w  io.Writer
	mu sync.Mutex
	b  *progressbar.ProgressBar
}

func newBar(w io.Writer) *bar { return &bar{w: w} }

// barWidth in characters.
const barWidth = 30

// nodes shows how far a copy has come. How many nodes there are is known when all are
// read: until then the bar is about those that are.
func (b *bar) nodes(p nodecopy.Progress) {
	if !isTerminal(b.w) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b == nil {
		b.b = progressbar.NewOptions64(1, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription("nodes"), progressbar.OptionSetWidth(barWidth),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	done := p.Created + p.Updated + p.Deleted + p.Unchanged + p.Skipped + p.Failed
	b.b.ChangeMax64(max(p.Read, done, 1) + 1) // one more: a bar that is full ends
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
