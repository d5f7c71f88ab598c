package eventslistener

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/logging"
	"github.com/afterimage-dr/afterimage/state"
	"github.com/afterimage-dr/afterimage/topology"
)

// candidate is a key that may have been deleted in the source.
type candidate struct {
	key   string
	entry state.Entry
	// known: the log holds it. Otherwise somebody downstream asked about it.
	known bool
	// rv at which it was seen to be absent.
	rv        string
	requested bool
	reason    string
}

// absence concludes deletes from what the source does not show: the second look
// and the breaker (guarantee 8).
type absence struct {
	t *term
	// one conclusion at a time, so that the breaker sees them all.
	turn chan struct{}

	mu      sync.Mutex
	blocked map[string]block // by subject
	recent  []conclusion
	// allowed is the token a person confirmed, and for which subjects it still holds.
	allowed map[string]uint64
}

// block is a set of deletes that waits for a person.
type block struct {
	keys    int64
	sum     uint64 // of the keys, whatever their order
	missing int64  // keys and what goes with them
	reason  string
	since   time.Time
	// lookedTwice: not only a listing lacked them, but the second look as well.
	lookedTwice bool
}

// conclusion is a number of deletes concluded at a time: a source that is lost
// bit by bit must not pass the breaker in slices.
type conclusion struct {
	at      time.Time
	subject string
	n       int64
}

// window is how long conclusions count together.
const window = 10 * time.Minute

// lookers are the GETs of a second look at a time.
const lookers = 8

// manyCandidates is from where the breaker is asked before the second look, too:
// a lost source must not be answered with a storm of GETs.
const manyCandidates = 1000

func newAbsence(t *term) *absence {
	return &absence{t: t, turn: make(chan struct{}, 1), blocked: map[string]block{}, allowed: map[string]uint64{}}
}

// conclude appends deletes for those candidates of a resource that a second look
// confirms, all or none. It returns whether the breaker holds them back.
func (a *absence) conclude(ctx context.Context, lf *life, candidates []candidate) (blocked bool, err error) {
	if len(candidates) == 0 {
		a.clear(lf.subject)
		return false, nil
	}
	if len(candidates) > manyCandidates {
		if blocked, err := a.judge(ctx, lf.subject, candidates, false); err != nil || blocked {
			return blocked, err
		}
	}
	// Of what was looked at twice and has waited for a person since, this listing is
	// the third look.
	if !a.waited(lf.subject, candidates) && !sleep(ctx, a.t.opts.SecondLook) {
		return false, context.Cause(ctx)
	}
	gone, err := a.secondLook(ctx, lf, candidates)
	if err != nil {
		return false, fmt.Errorf("looking again for missing objects: %w", err)
	}
	return a.settle(ctx, lf.subject, gone)
}

// waited tells whether these very candidates are held back already.
func (a *absence) waited(subject string, candidates []candidate) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, ok := a.blocked[subject]
	return ok && b.keys == int64(len(candidates)) && b.sum == sumOf(candidates) && b.lookedTwice
}

// sumOf the keys, whatever their order.
func sumOf(candidates []candidate) (sum uint64) {
	for i := range candidates {
		sum ^= xxhash.Sum64String(candidates[i].key)
	}
	return sum
}

// settle passes confirmed absences through the breaker and appends the deletes.
func (a *absence) settle(ctx context.Context, subject string, gone []candidate) (blocked bool, err error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if len(gone) == 0 {
		a.clear(subject)
		return false, nil
	}
	if blocked, err := a.judge(ctx, subject, gone, true); err != nil || blocked {
		return blocked, err
	}
	if err := a.t.sameCluster(ctx); err != nil {
		return false, err
	}
	n, err := a.bury(ctx, gone)
	a.mu.Lock()
	a.recent = append(a.recent, conclusion{time.Now(), subject, n})
	a.mu.Unlock()
	if err == nil {
		a.clear(subject)
	}
	return false, err
}

// secondLook asks the source for each candidate again. What is there is appended.
func (a *absence) secondLook(ctx context.Context, lf *life, candidates []candidate) ([]candidate, error) {
	// A GET of a resource that is no longer served is "not found" as well.
	if _, err := a.t.source.Resolve(ctx, lf.r.Group, lf.r.Version, lf.r.Resource); err != nil {
		return nil, err
	}
	missing := make([]bool, len(candidates))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookers)
	for i := range candidates {
		g.Go(func() error {
			c := &candidates[i]
			raw, err := a.t.get(gctx, lf.r, c.key)
			switch {
			case apierrors.IsNotFound(err):
				missing[i] = true
				return nil
			case err != nil:
				return err
			}
			o, err := decode(lf.r, raw)
			if err != nil {
				return err
			}
			_, err = a.t.observe(gctx, &o, cause{observed: time.Now(), requested: c.requested, reason: c.reason})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	gone := make([]candidate, 0, len(candidates))
	for i, m := range missing {
		if m {
			gone = append(gone, candidates[i])
		}
	}
	return gone, nil
}

// get reads one object for a decision about its absence.
func (t *term) get(ctx context.Context, r kube.Resource, key string) ([]byte, error) {
	k, err := topology.ParseKey(key)
	if err != nil {
		return nil, err
	}
	t.log.DebugContext(ctx, logging.ReadingObject, t.cluster(), logging.SourceObject(k, "", ""))
	raw, err := t.source.Get(ctx, r, k)
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		t.log.WarnContext(ctx, logging.ErrGettingObject, t.cluster(), logging.SourceObject(k, "", ""), logging.Err(err))
	}
	return raw, err
}

// judge asks the breaker, over everything that is missing now or was concluded
// to be a short while ago.
func (a *absence) judge(ctx context.Context, subject string, candidates []candidate, lookedTwice bool) (blocked bool, err error) {
	sum, unknown := sumOf(candidates), int64(0)
	for i := range candidates {
		if !candidates[i].known {
			unknown++
		}
	}
	taken, err := a.takenAlong(subject, candidates)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	allowed := false
	defer func() {
		a.mu.Unlock()
		if allowed {
			a.lookAgain(subject) // at what else was confirmed with it
		}
	}()
	of := tally{name: subject, missing: int64(len(candidates)), tracked: a.t.m.tracked(strings.TrimSuffix(subject, requestedSuffix)+"/") + unknown}
	all := tally{name: "the LiveSynchronization", missing: of.missing + taken, tracked: a.t.m.tracked("") + unknown}
	for other, b := range a.blocked {
		if other != subject {
			all.missing += b.missing
		}
	}
	now := time.Now()
	kept := a.recent[:0]
	for _, c := range a.recent {
		if now.Sub(c.at) > window {
			continue
		}
		kept = append(kept, c)
		all.missing, all.tracked = all.missing+c.n, all.tracked+c.n
		if c.subject == subject {
			of.missing, of.tracked = of.missing+c.n, of.tracked+c.n
		}
	}
	a.recent = kept
	reason, tripped := trip(of, all)
	if !tripped {
		return false, nil
	}
	b := block{keys: int64(len(candidates)), sum: sum, missing: int64(len(candidates)) + taken, reason: reason, since: now, lookedTwice: lookedTwice}
	if old, ok := a.blocked[subject]; ok {
		b.since = old.since
		if old.sum == sum && old.keys == b.keys {
			b.reason = old.reason
		}
	}
	a.blocked[subject] = b
	before := len(a.allowed)
	a.confirm()
	allowed = len(a.allowed) > max(before, 1) // others than this one
	if of, ok := a.allowed[subject]; ok && of == sum {
		delete(a.allowed, subject)
		a.t.log.WarnContext(ctx, "deleting what is missing in the source, as confirmed", "resource", subject, "objects", b.keys, "reason", reason)
		return false, nil
	}
	a.t.log.ErrorContext(ctx, "deletes are held back until a person confirms them", slog.String("resource", subject),
		slog.Int64("objects", b.keys), slog.String("reason", reason), slog.String("token", a.token()), a.t.cluster())
	return true, nil
}

// confirm compares the token a person gave with what is blocked: it allows
// exactly the deletes it was made of. a.mu must be held.
func (a *absence) confirm() bool {
	if !a.t.settings().ConfirmsPrune(a.token()) {
		return false
	}
	for subject, b := range a.blocked {
		a.allowed[subject] = b.sum
	}
	return true
}

// confirmed is called when a person gave another token.
func (a *absence) confirmed() {
	a.mu.Lock()
	ok := a.confirm()
	a.mu.Unlock()
	if ok {
		a.lookAgain("")
	}
}

// lookAgain has everything whose deletes are held back looked at again, but for
// the subject that is being looked at.
func (a *absence) lookAgain(but string) {
	a.mu.Lock()
	subjects := make([]string, 0, len(a.blocked))
	for s := range a.blocked {
		if s != but {
			subjects = append(subjects, s)
		}
	}
	a.mu.Unlock()
	for _, lf := range a.t.everyLife() {
		for _, s := range subjects {
			if lf.subject == s {
				lf.relist()
			}
		}
	}
	a.t.requests.retryHeld()
}

// token names exactly what is blocked. a.mu must be held.
func (a *absence) token() string {
	var sum uint64
	var keys int64
	for _, b := range a.blocked {
		sum ^= b.sum
		keys += b.keys
	}
	return fmt.Sprintf("%d-%08x", keys, uint32(sum^sum>>32))
}

func (a *absence) clear(subject string) {
	a.mu.Lock()
	_, was := a.blocked[subject]
	delete(a.blocked, subject)
	delete(a.allowed, subject)
	a.mu.Unlock()
	if was {
		a.t.log.Info("no deletes are held back any more", "resource", subject)
	}
}

func (a *absence) isBlocked(subject string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.blocked[subject]
	return ok
}

// bury appends the deletes. A key that changed since it was missed is left alone.
func (a *absence) bury(ctx context.Context, gone []candidate) (n int64, err error) {
	for i := range gone {
		c := &gone[i]
		key, err := topology.ParseKey(c.key)
		if err != nil {
			return n, err
		}
		cur, known, err := a.t.m.partOf(c.key).lookup(c.key)
		if err != nil {
			return n, err
		}
		if known != c.known || known && cur.Version != c.entry.Version {
			continue
		}
		reason := c.reason
		if reason == "" {
			reason = "a complete listing and a second look did not find it"
		}
		o := object{key: key, uid: c.entry.UID, rv: c.rv, deleted: true}
		what, err := a.t.observe(ctx, &o, cause{observed: time.Now(), inferred: true, requested: c.requested, reason: reason})
		if err != nil {
			return n, err
		}
		if what == appended {
			n++
			a.t.l.counts.inferred.Add(1)
		}
	}
	return n, nil
}

// takenAlong counts the objects that would go with missing Namespaces and
// CustomResourceDefinitions and are not of the resource itself.
func (a *absence) takenAlong(subject string, candidates []candidate) (int64, error) {
	namespaces, prefixes := map[string]bool{}, map[string]bool{}
	for i := range candidates {
		key, err := topology.ParseKey(candidates[i].key)
		switch {
		case err != nil:
			return 0, err
		case key.Group == "" && key.Resource == "namespaces":
			namespaces[key.Name] = true
		case key.Group == "apiextensions.k8s.io" && key.Resource == "customresourcedefinitions":
			plural, group, _ := strings.Cut(key.Name, ".")
			prefixes[group+"/"+plural] = true
		}
	}
	if len(namespaces)+len(prefixes) == 0 {
		return 0, nil
	}
	var n int64
	for _, p := range a.t.m.parts {
		err := p.m.stage.Each(p.id, "", func(k string, e state.Entry) error {
			key, err := topology.ParseKey(k)
			if err != nil || e.Deleted {
				return nil
			}
			if namespaces[key.Namespace] || prefixes[key.Group+"/"+key.Resource] {
				n++
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// blockedMessage says what is held back and how to confirm it; "" when nothing is.
func (a *absence) blockedMessage() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	reasons := make([]string, 0, len(a.blocked))
	for subject, b := range a.blocked {
		if sum, ok := a.allowed[subject]; !ok || sum != b.sum { // else it was confirmed and is on its way
			reasons = append(reasons, b.reason)
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	slices.Sort(reasons)
	token, _ := json.Marshal(a.token()) // a string always marshals
	return fmt.Sprintf("%s. Nothing is deleted. If these objects are really gone, confirm it with the annotation afterimage.io/confirm-prune: %s",
		strings.Join(reasons, "; "), token)
}
