package synchronizer

import (
	"sort"
	"time"
)

// tracker knows which offsets of a partition are done with. The watermark, the
// lowest offset that is not, is the position: everything below it has taken
// effect (guarantee 1). It is not safe for concurrent use.
type tracker struct {
	items []tracked
	head  int
	next  int64 // the offset after the last one added
}

type tracked struct {
	offset   int64
	observed time.Time
	done     bool
	passed   func() // called when the position behind it is durable
	// remember is called when the watermark passes, for what is to be durable
	// together with the position.
	remember func()
}

// add notes an offset, higher than all before. passed may be nil.
func (t *tracker) add(offset int64, observed time.Time, passed func()) {
	t.items = append(t.items, tracked{offset: offset, observed: observed, passed: passed})
	t.next = offset + 1
}

// done notes that an offset has had its effect.
func (t *tracker) done(offset int64) {
	live := t.items[t.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].offset >= offset })
	if i < len(live) && live[i].offset == offset {
		live[i].done = true
	}
}

// skip notes an offset that has no effect.
func (t *tracker) skip(offset int64, passed func()) {
	t.add(offset, time.Time{}, passed)
	t.items[len(t.items)-1].done = true
}

// skipRemembering is skip for what is to be remembered with the position.
func (t *tracker) skipRemembering(offset int64, remember, passed func()) {
	t.skip(offset, passed)
	t.items[len(t.items)-1].remember = remember
}

// advance moves the watermark and returns it with what was to be called on the way.
func (t *tracker) advance() (position int64, passed []func()) {
	for t.head < len(t.items) && t.items[t.head].done {
		if f := t.items[t.head].remember; f != nil {
			f()
		}
		if f := t.items[t.head].passed; f != nil {
			passed = append(passed, f)
		}
		t.items[t.head] = tracked{}
		t.head++
	}
	if t.head == len(t.items) {
		t.items, t.head = t.items[:0], 0
		return t.next, passed
	}
	if t.head > len(t.items)/2 && t.head > 256 {
		n := copy(t.items, t.items[t.head:])
		clear(t.items[n:])
		t.items, t.head = t.items[:n], 0
	}
	return t.items[t.head].offset, passed
}

// oldest is when the oldest unfinished change was observed; zero if there is none.
func (t *tracker) oldest() time.Time {
	var oldest time.Time
	for _, i := range t.items[t.head:] {
		if !i.done && !i.observed.IsZero() && (oldest.IsZero() || i.observed.Before(oldest)) {
			oldest = i.observed
		}
	}
	return oldest
}
