package faultproxy

import "sync"

// Rule causes a fault where its match agrees. A request may meet several rules:
// they apply in the order in which they were added, until one answers it.
type Rule struct {
	Match Match
	Fault Fault
	// Skip leaves the first so many matches alone.
	Skip int
	// Every makes only every so many-th match after Skip a fault. 0 and 1 mean
	// each.
	Every int
	// Times ends the rule after so many faults. 0 means never.
	Times int
}

// Active is a rule at work.
type Active struct {
	Rule
	proxy *HTTP

	mu      sync.Mutex
	matches int
	hits    int
}

// Hits is how many faults the rule has caused.
func (a *Active) Hits() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hits
}

// Remove ends the rule. Requests that already hang go on hanging.
func (a *Active) Remove() { a.proxy.remove(a) }

// due counts a match and says whether it becomes a fault.
func (a *Active) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Times > 0 && a.hits >= a.Times {
		return false
	}
	a.matches++
	n := a.matches - a.Skip
	if n <= 0 || a.Every > 1 && n%a.Every != 0 {
		return false
	}
	a.hits++
	return true
}

// Add puts a rule to work, for open watches as well.
func (p *HTTP) Add(rule Rule) *Active {
	a := &Active{Rule: rule, proxy: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, a)
	return a
}

// Reset removes all rules.
func (p *HTTP) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

func (p *HTTP) remove(a *Active) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A copy: others may be going through the present slice.
	kept := make([]*Active, 0, len(p.rules))
	for _, rule := range p.rules {
		if rule != a {
			kept = append(kept, rule)
		}
	}
	p.rules = kept
}

func (p *HTTP) active() []*Active {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules[:len(p.rules):len(p.rules)]
}

// requestFaults are the faults that this request meets.
func (p *HTTP) requestFaults(r *Request) []requestFault {
	var faults []requestFault
	for _, a := range p.active() {
		if fault, ok := a.Fault.(requestFault); ok && a.Match.request(r, false) && a.due() {
			faults = append(faults, fault)
		}
	}
	return faults
}

// eventFaults are the faults that this event of a watch meets.
func (p *HTTP) eventFaults(r *Request, e *event) []eventFault {
	var faults []eventFault
	for _, a := range p.active() {
		if fault, ok := a.Fault.(eventFault); ok && a.Match.request(r, true) && a.Match.event(e) && a.due() {
			faults = append(faults, fault)
		}
	}
	return faults
}
