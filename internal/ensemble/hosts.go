package ensemble

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
)

// hosts names the servers in turn, for the library. Its own provider looks the names
// up once, when the session begins: then one name that does not resolve keeps all
// servers from being reached, a server that moved is never found again, and
// certificates are held against addresses, where they have names.
type hosts struct {
	mu      sync.Mutex
	servers []string
	at      int // of the one that was named last
	from    int // the one that answered last; at first none, then the first
}

// Init takes the servers and spreads clients over them.
func (h *hosts) Init(servers []string) error {
	if len(servers) == 0 {
		return errors.New("no servers are named")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers, h.at, h.from = slices.Clone(servers), -1, -1
	rand.Shuffle(len(h.servers), func(i, j int) { h.servers[i], h.servers[j] = h.servers[j], h.servers[i] })
	return nil
}

// Len is how many servers there are.
func (h *hosts) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.servers)
}

// Next names the next server. again says that all others were tried since one answered.
func (h *hosts) Next() (server string, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = (h.at + 1) % len(h.servers)
	again = h.at == h.from
	h.from = max(h.from, 0)
	return h.servers[h.at], again
}

// Connected: the one that was named last answered.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.from = h.at
}
