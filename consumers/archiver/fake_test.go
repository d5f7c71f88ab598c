package archiver

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

var errFault = errors.New("injected fault")

// fake is a bucket in memory that behaves as the real one does, notes whatever
// would break a promise, and fails when it is told to.
type fake struct {
	mu      sync.Mutex
	objects map[string]stored
	// newest version ever written, by path: none may be written below it.
	newest map[string]topology.Version
	broken []string
	writes int
	heads  int

	// down fails everything; refuse fails writes of a path; lose makes a write take
	// effect and fail; hang blocks writes of a path until it is closed.
	down   bool
	refuse func(path string) bool
	lose   func(path string) bool
	hang   map[string]chan struct{}
	// deny refuses all writes, and lets the probe and listings pass.
	deny bool
}

type stored struct {
	original bucket.Original
	content  string
	foreign  bool
}

func newFake() *fake {
	return &fake{objects: map[string]stored{}, newest: map[string]topology.Version{}, hang: map[string]chan struct{}{}}
}

func (f *fake) trouble(ctx context.Context, path string, write bool) error {
	f.mu.Lock()
	hang := f.hang[path]
	f.mu.Unlock()
	if hang != nil && write {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down || write && (f.deny || f.refuse != nil && f.refuse(path)) {
		return errFault
	}
	return ctx.Err()
}

func (f *fake) Probe(ctx context.Context) error { return f.trouble(ctx, "", false) }

func (f *fake) Put(ctx context.Context, o bucket.Original) (bool, error) {
	return f.put(ctx, o, false)
}

func (f *fake) PutKnown(ctx context.Context, o bucket.Original, etag string) (bool, error) {
	return f.put(ctx, o, etag == "")
}

func (f *fake) put(ctx context.Context, o bucket.Original, absent bool) (bool, error) {
	if err := f.trouble(ctx, o.Path, true); err != nil {
		return false, err
	}
	content, err := o.Content()
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.objects[o.Path]
	if ok || !absent {
		f.heads++
		if ok && !old.foreign && (o.Version.Older(old.original.Version) || old.content == string(content)) {
			return false, nil
		}
	}
	f.writes++
	if old.original.Key.String() != o.Key.String() && ok && !old.foreign {
		f.broken = append(f.broken, "two keys share "+o.Path)
	}
	// Also where the bucket was emptied or the original deleted meanwhile.
	if last, ok := f.newest[o.Path]; ok && o.Version.Older(last) {
		f.broken = append(f.broken, o.Path+" went back from "+last.String()+" to "+o.Version.String())
	}
	f.newest[o.Path] = o.Version
	o.Body = slices.Clone(o.Body)
	f.objects[o.Path] = stored{original: o, content: string(content)}
	if f.lose != nil && f.lose(o.Path) {
		return false, errFault
	}
	return true, nil
}

func (f *fake) Get(ctx context.Context, path string) (bucket.Original, error) {
	if err := f.trouble(ctx, path, false); err != nil {
		return bucket.Original{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.objects[path]
	switch {
	case !ok:
		return bucket.Original{}, bucket.ErrNotFound
	case o.foreign:
		return bucket.Original{}, bucket.ErrForeign
	}
	return o.original, nil
}

func (f *fake) Delete(ctx context.Context, path string, v topology.Version) error {
	if err := f.trouble(ctx, path, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.objects[path]
	if !ok || v.Older(old.original.Version) {
		return nil
	}
	f.writes++
	delete(f.objects, path)
	if f.lose != nil && f.lose(path) {
		return errFault
	}
	return nil
}

func (f *fake) List(ctx context.Context, folder string, fn func(bucket.Entry) error) error {
	if err := f.trouble(ctx, "", false); err != nil {
		return err
	}
	f.mu.Lock()
	var all []bucket.Entry
	for _, path := range slices.Sorted(maps.Keys(f.objects)) {
		if strings.HasPrefix(path, folder) {
			o := f.objects[path]
			all = append(all, bucket.Entry{Path: path, ETag: bucket.ETagOf([]byte(o.content)), Size: int64(len(o.content))})
		}
	}
	f.mu.Unlock()
	for _, e := range all {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// change does something to the bucket as nobody of ours does.
func (f *fake) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fake) count() (writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// holds is what the bucket has: name → data of each original, "foreign" for what
// is none.
func (f *fake) holds() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]string{}
	for path, o := range f.objects {
		if o.foreign {
			out[path] = "foreign"
			continue
		}
		out[o.original.Key.Name] = dataOf(o.original.Body)
	}
	return out
}

func dataOf(body []byte) string {
	var o struct{ Data map[string]string }
	if err := json.Unmarshal(body, &o); err != nil {
		return err.Error()
	}
	return o.Data["v"]
}
