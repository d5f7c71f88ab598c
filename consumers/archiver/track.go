package archiver

import (
	"sort"
	"time"
)

// tracker knows which offsets of a partition are done with. The watermark, the
// lowest that is not, is the position: everything below has taken effect
// (guarantee 1). Not safe for concurrent use.
type tracker struct {
	items []tracked
	next  int64 // the offset after the last one added
}

type tracked struct {
	offset   int64
	observed time.Time
	done     bool
	// remember is called when the watermark passes, for what is to be durable
	// together with the position.
	remember func()
}

// add notes an offset, higher than all before.
func (t *tracker) add(offset int64, observed time.Time) {
	t.items = append(t.items, tracked{offset: offset, observed: observed})
	t.next = offset + 1
}

// skip notes an offset that has no effect; remember may be nil.
func (t *tracker) skip(offset int64, remember func()) {
	if len(t.items) > 0 || remember != nil {
		t.items = append(t.items, tracked{offset: offset, done: true, remember: remember})
	}
	t.next = offset + 1
}

// done notes that an offset has had its effect.
func (t *tracker) done(offset int64) {
	i := sort.Search(len(t.items), func(i int) bool { return t.items[i].offset >= offset })
	if i < len(t.items) && t.items[i].offset == offset {
		t.items[i].done = true
	}
}

// advance moves the watermark and returns it.
func (t *tracker) advance() int64 {
	n := 0
	for n < len(t.items) && t.items[n].done {
		if f := t.items[n].remember; f != nil {
			f()
		}
		n++
	}
	if n == len(t.items) {
		t.items = nil
		return t.next
	}
	t.items = t.items[n:] // append moves it when the room behind is used up
	return t.items[0].offset
}

// oldest is when the oldest unfinished change was observed; zero if there is none.
func (t *tracker) oldest() (oldest time.Time) {
	for _, i := range t.items {
		if !i.done && !i.observed.IsZero() && (oldest.IsZero() || i.observed.Before(oldest)) {
			oldest = i.observed
		}
	}
	return oldest
}
