package zookeeper

import (
	"sync"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
)

// refusals are the nodes that could not be read, or not taken, when everything was
// compared last, and what has become of them since.
type refusals struct {
	mu    sync.Mutex
	paths map[string]bool
	news  bool
}

func (r *refusals) reset(all []ensemble.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths, r.news = map[string]bool{}, false
	for _, one := range all {
		r.paths[one.Path] = true
	}
}

func (r *refusals) add(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news = r.news || !r.paths[path]
	r.paths[path] = true
}

func (r *refusals) remove(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news = r.news || r.paths[path]
	delete(r.paths, path)
}

// changed tells whether it is not as the last comparison found it.
func (r *refusals) changed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.news
}
