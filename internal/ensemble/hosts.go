package ensemble

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// hosts names the servers in turn, for the library. Its own provider looks the names
// up once, when the session begins: then one name that does not resolve keeps all
// servers from being reached, a server that moved is never found again, and
// certificates are held against addresses, where they have names.
type hosts struct {
	names  []string
	lookup func(ctx context.Context, host string) ([]string, error)

	mu sync.Mutex
	// known addresses of each name, as they were looked up last; of an address, itself.
	known map[string][]string
	// nameOf an address.
	nameOf map[string]string
	// round is in which order addresses are tried, and at the next of them.
	round []string
	at    int
}

// lookupWithin bounds the looking up of all names.
const lookupWithin = 3 * time.Second

// Init takes the servers and spreads clients over them.
func (h *hosts) Init(servers []string) error {
	if len(servers) == 0 {
		return errors.New("no servers are named")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names, h.known = slices.Clone(servers), map[string][]string{}
	h.begin()
	return nil
}

// begin looks all names up and mixes their addresses. A name that does not resolve now
// keeps the addresses it had; one that never did stands for itself, so that dialing it
// says why.
func (h *hosts) begin() {
	if h.lookup == nil {
		h.lookup = net.DefaultResolver.LookupHost
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupWithin)
	defer cancel()
	h.round, h.at, h.nameOf = nil, 0, map[string]string{}
	for _, name := range h.names {
		host, port, err := net.SplitHostPort(name)
		if err != nil {
			host = name
		}
		if found, err := h.lookup(ctx, host); err == nil && len(found) > 0 {
			h.known[name] = nil
			for _, address := range found {
				h.known[name] = append(h.known[name], net.JoinHostPort(address, port))
			}
		}
		if len(h.known[name]) == 0 {
			h.round, h.nameOf[name] = append(h.round, name), name
		}
		for _, address := range h.known[name] {
			h.round, h.nameOf[address] = append(h.round, address), name
		}
	}
	slices.Sort(h.round)
	h.round = slices.Compact(h.round)
	rand.Shuffle(len(h.round), func(i, j int) { h.round[i], h.round[j] = h.round[j], h.round[i] })
}

// Len is how many servers there are.
func (h *hosts) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.round)
}

// Next names the next address. again says that all were tried since one answered.
func (h *hosts) Next() (address string, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == len(h.round) {
		h.begin()
		again = true
	}
	address = h.round[h.at]
	h.at++
	return address, again
}

// Connected: the one that was named last answered.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	// A whole round begins when it is lost: with another one, where there are others.
	h.round = append(h.round[h.at:], h.round[:h.at]...)
	h.at = 0
}

// name that was given for an address.
func (h *hosts) name(address string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if name, ok := h.nameOf[address]; ok {
		return name
	}
	return address
}
