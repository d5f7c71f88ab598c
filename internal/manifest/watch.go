package manifest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// debounce waits until whoever writes is done: an editor's rename and
	// replace, kubectl's or a person's several files.
	debounce = 200 * time.Millisecond
	// pollPeriod bounds how late a change is seen where no notification comes
	// (network file systems, a folder that was itself replaced). With the time
	// the components take it keeps suspend within its 5 s in nearly every case,
	// notification or not.
	pollPeriod = 2 * time.Second
)

// Watch reads the manifests again whenever they change, until ctx ends.
// onChange is called, always from the same goroutine, with a new set when the
// manifests are valid and say something new, and with an error when they are
// not: then the last good set remains in force. It is called once for each
// distinct error, and once with the last good set and no error when the
// manifests are as they were before the error, so that status can clear it.
//
// A Recovery or Synchronization cannot be changed, as in a cluster; taking it away
// is the end of it.
//
// Taking a LiveSynchronization away is not a change that is followed: a file
// that vanished is more often an accident, and stopping a standby has to be
// meant. The error says what to do.
//
// The manifests as Load found them are the starting point: pass the set it gave,
// nil to have the first valid set reported too.
func Watch(ctx context.Context, paths []string, last *Set, onChange func(*Set, error), opts ...Option) {
	w := &watcher{paths: paths, options: newOptions(opts), last: last, onChange: onChange}
	if last != nil {
		w.kubeconfigs = last.kubeconfigFiles
	}
	events, watched := w.notifications()
	if watched != nil {
		defer func() { _ = watched.Close() }()
	}
	poll := time.NewTicker(pollPeriod)
	defer poll.Stop()
	settle := time.NewTimer(0) // look at once: they may have changed since Load
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				events = nil // polling goes on
				continue
			}
			settle.Reset(debounce)
		case <-settle.C:
			w.lookAgain(settle)
			w.follow(watched)
		case <-poll.C:
			w.lookAgain(settle)
			w.follow(watched)
		}
	}
}

func (w *watcher) lookAgain(settle *time.Timer) {
	if w.look() {
		settle.Reset(debounce)
	}
}

type watcher struct {
	paths    []string
	options  options
	last     *Set
	onChange func(*Set, error)

	kubeconfigs []string // files the manifests refer to, also those of invalid ones
	problem     string   // the error reported last; "" when all is well
	seen        string   // hash of what was handled last
	pending     string   // hash of what was seen once
}

// look reads the manifests and handles them when they differ from what was
// handled last and are the same as at the look before: what changed between two
// looks is still being written, and half a manifest can be a valid one. It
// returns true when another look is needed soon.
func (w *watcher) look() bool {
	snap := take(w.paths, w.options)
	hash := snap.hash(w.kubeconfigs)
	if hash == w.seen {
		w.pending = ""
		return false
	}
	if hash != w.pending {
		w.pending = hash
		return true
	}
	w.seen, w.pending = hash, ""
	set, kubeconfigs, err := snap.load(w.options)
	if !slices.Equal(kubeconfigs, w.kubeconfigs) {
		w.kubeconfigs = kubeconfigs
		w.seen = snap.hash(kubeconfigs)
	}
	if err == nil {
		err = w.refused(set)
	}
	switch {
	case err != nil && err.Error() == w.problem:
	case err != nil:
		w.problem = err.Error()
		w.onChange(nil, err)
	case w.last != nil && set.content == w.last.content && w.problem == "":
	default:
		w.problem, w.last = "", set
		w.onChange(set, nil)
	}
	return false
}

// refused tells what of the last good set may not become what it is now: a
// LiveSynchronization that is gone, and a Recovery or Synchronization that was
// changed.
func (w *watcher) refused(set *Set) error {
	if w.last == nil {
		return nil
	}
	gone := w.changedRuns(set)
	for _, ls := range w.last.LiveSynchronizations {
		key := types.NamespacedName{Namespace: ls.Namespace, Name: ls.Name}
		if !slices.ContainsFunc(set.keys(), func(k types.NamespacedName) bool { return k == key }) {
			gone = append(gone, &Error{
				File: strings.Join(w.paths, ", "), Object: ls.Kind + " " + key.String(),
				Detail: "expected it to stay among the manifests; it goes on as it was: set spec.suspend to true to stop it, or restart to let it go",
			})
		}
	}
	return gone.sorted(nil)
}

// changedRuns tells which Recoveries and Synchronizations are not as they were:
// they run once.
func (w *watcher) changedRuns(set *Set) Errors {
	var changed Errors
	refuse := func(kind string, id types.NamespacedName, what string) {
		changed = append(changed, &Error{
			File: strings.Join(w.paths, ", "), Object: kind + " " + id.String(), Field: "spec",
			Detail: fmt.Sprintf("cannot be changed, because a %s runs once: expected it as it was, or a %s of another name", what, kind),
		})
	}
	for _, old := range w.last.Recoveries {
		for _, r := range set.Recoveries {
			if r.Namespace == old.Namespace && r.Name == old.Name && !equality.Semantic.DeepEqual(r.Spec, old.Spec) {
				refuse(r.Kind, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, "recovery")
			}
		}
	}
	for _, old := range w.last.Synchronizations {
		for _, r := range set.Synchronizations {
			if r.Namespace == old.Namespace && r.Name == old.Name && !equality.Semantic.DeepEqual(r.Spec, old.Spec) {
				refuse(r.Kind, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, "synchronization")
			}
		}
	}
	return changed
}

func (s *Set) keys() []types.NamespacedName {
	out := make([]types.NamespacedName, len(s.LiveSynchronizations))
	for i, ls := range s.LiveSynchronizations {
		out[i] = types.NamespacedName{Namespace: ls.Namespace, Name: ls.Name}
	}
	return out
}

// notifications watches the folders of all files: a file that is replaced by a
// rename, as editors do it, is another file, and only its folder says so.
func (w *watcher) notifications() (chan fsnotify.Event, *fsnotify.Watcher) {
	watched, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil // out of inotify instances: polling sees changes too
	}
	w.follow(watched)
	go func() {
		for range watched.Errors { // an overflow loses events; polling makes up for it
		}
	}()
	return watched.Events, watched
}

// follow adds the folders that are not watched yet. One that was removed and
// made again has to be added again.
func (w *watcher) follow(watched *fsnotify.Watcher) {
	if watched == nil {
		return
	}
	have := watched.WatchList()
	for _, dir := range w.folders() {
		if slices.Contains(have, dir) {
			continue
		}
		if err := watched.Add(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			continue // polling sees what cannot be watched
		}
	}
}

func (w *watcher) folders() []string {
	var dirs []string
	add := func(dir string) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, path := range w.paths {
		if path == Stdin {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			add(filepath.Clean(path))
		} else {
			add(filepath.Dir(path))
		}
	}
	for _, file := range w.kubeconfigs {
		add(filepath.Dir(file))
	}
	return dirs
}
