package processor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/breaker"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
	"github.com/afterimage-dr/afterimage/topology"
)

// typo is a filter that takes nothing.
const typo = `{"resources":[{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":["apps?-typo"]}}}]}`

var asked = regexp.MustCompile(`afterimage\.io/confirm-prune[=:] ?"?([^"\s]+)`)

// blocked returns the message of the condition, and its token.
func (r *rig) blocked() (message, token string) {
	var s v1alpha1.LiveSynchronizationStatus
	r.p.Report(&s)
	return blockedIn(&s)
}

func blockedIn(s *v1alpha1.LiveSynchronizationStatus) (message, token string) {
	for _, c := range s.Conditions {
		if c.Type == ConditionPruneBlocked {
			if m := asked.FindStringSubmatch(c.Message); m != nil {
				return c.Message, m[1]
			}
			return c.Message, ""
		}
	}
	return "", ""
}

func (r *rig) wantBlocked(parts ...string) (token string) {
	r.Helper()
	var message string
	r.eventually("deletes are blocked", func() bool { message, token = r.blocked(); return message != "" })
	for _, p := range parts {
		if !strings.Contains(message, p) {
			r.Fatalf("message %q lacks %q", message, p)
		}
	}
	if token == "" {
		r.Fatalf("message %q names no token", message)
	}
	return token
}

// confirm gives what is asked for, if anything is.
func (r *rig) confirm() {
	_, token := r.blocked()
	if token == "" {
		return
	}
	r.give(token)
	r.eventually("what was confirmed is done", func() bool { m, _ := r.blocked(); return m == "" })
}

func (r *rig) give(token string) {
	s := r.settings.Load()
	s.ConfirmPrune = token
	r.settings.Set(s)
}

// many puts n objects of each prefix and returns what desired then holds.
func (r *rig) many(n int, prefixes ...string) m {
	r.Helper()
	all := m{}
	for _, p := range prefixes {
		for i := range n {
			name := fmt.Sprintf("%s%02d", p, i)
			r.put(name, "1")
			all[name] = "1"
		}
	}
	r.settle()
	r.want("before", all)
	return all
}

func only(all m, prefix string) m {
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(k, _ string) bool { return !strings.HasPrefix(k, prefix) })
	return out
}

func (r *rig) tombstones() (n int) {
	for _, rec := range r.read(r.topics.Desired) {
		if rec.Kind == topology.Object && rec.Op == topology.Delete {
			n++
		}
	}
	return n
}

func TestLimitBlocksUntilConfirmed(t *testing.T) {
	for name, config := range map[string]string{"a filter that takes nothing": typo, "an entry that is gone": another} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.configure(everything)
			r.start()
			all := r.many(6, "a")
			r.configure(config)
			r.settle()
			token := r.wantBlocked("6 of 6 objects of core/v1/configmaps")
			r.want("nothing is deleted", all)
			r.give("something-else")
			r.settle()
			r.want("another token confirms nothing", all)
			r.give("12-abcdef," + token)
			r.eventually("it is deleted", func() bool { return len(r.desired()) == 0 })
			r.eventually("nothing is asked for any more", func() bool { m, _ := r.blocked(); return m == "" })
			for _, rec := range r.read(r.topics.Desired) {
				if rec.Op == topology.Delete && (rec.Version.Generation != 2 || (rec.Reason == topology.ReasonUncovered) != (config == another)) {
					t.Errorf("tombstone %+v", rec)
				}
			}
			r.configure(everything)
			r.settle()
			r.want("it can come back", all)
		})
	}
}

func TestLimitOfMoreThanHalf(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	all := r.many(13, "b")
	for i := range 10 {
		all[fmt.Sprintf("a%02d", i)] = "1"
		r.put(fmt.Sprintf("a%02d", i), "1")
	}
	r.settle()
	r.configure(onlyA)
	r.put("a99", "new")
	r.put("a00", "2")
	r.remove("b00") // observed in the source
	r.settle()
	r.wantBlocked("of 23 objects of core/v1/configmaps")
	all["a99"], all["a00"] = "new", "2"
	delete(all, "b00")
	r.want("everything else goes on", all)
	// While it is blocked, too.
	r.put("a98", "new")
	r.put("b01", "2")
	r.remove("b02")
	r.remove("a01")
	r.settle()
	all["a98"] = "new"
	delete(all, "b02")
	delete(all, "a01")
	r.want("what is held back stays as it is", all)
	r.configure(everything)
	r.settle()
	all["b01"] = "2"
	r.want("changed back", all)
	if m, _ := r.blocked(); m != "" {
		t.Errorf("still %s", m)
	}
	if n := r.tombstones(); n != 3 {
		t.Errorf("%d tombstones, want those of 3 deletes", n)
	}
}

func TestLimitLetsSmallChangesPassAtOnce(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	all := r.many(10, "a", "b")
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	r.configure(onlyA)
	r.eventually("they are deleted", func() bool { return len(r.desired()) == 10 })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	r.settle()
	r.want("half may go", only(all, "a"))
	if m, _ := r.blocked(); m != "" {
		t.Errorf("blocked: %s", m)
	}
}

// A heartbeat says that everything is there: it must not overtake the deletes.
func TestHeartbeatWaitsForDeletesByTheConfiguration(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.many(4, "a", "b")
	for i := range 5 {
		r.configure(onlyA)
		r.settle()
		if n := len(r.desired()); n != 4 {
			t.Fatalf("round %d: %d keys when the heartbeat is there", i, n)
		}
		r.configure(everything)
		r.settle()
	}
}

func TestLimitSurvivesRestarts(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	all := r.many(12, "a")
	restarts := map[string]func(){
		"restarted":                        func() {},
		"the state is lost":                r.wipe,
		"the position is too old":          func() { r.maxAge = time.Nanosecond },
		"the position is trusted again":    func() { r.maxAge = 0 },
		"compacted, and the state is lost": func() { _ = r.embedded.Compact(); r.wipe() },
	}
	for i, name := range slices.Sorted(maps.Keys(restarts)) {
		r.kill()
		restarts[name]()
		if i == 0 {
			r.configure(typo) // while nothing is running
		}
		r.put("a00", fmt.Sprint("while stopped ", i))
		r.start()
		r.put("a01", fmt.Sprint("changed ", i))
		r.settle()
		r.wantBlocked("12 of 12")
		r.want(name, all)
	}
	r.kill()
	r.give("config-none")
	r.start()
	r.give(r.wantBlocked())
	r.eventually("confirmed", func() bool { return len(r.desired()) == 0 })
	r.kill()
	r.wipe()
	r.start()
	r.settle()
	r.want("it stays so", m{})
}

// What was confirmed is done however often the process dies over it.
func TestConfirmedThroughCrashes(t *testing.T) {
	for _, step := range []string{"before-produce", "after-produce", "before-commit", "after-commit"} {
		t.Run(step, func(t *testing.T) {
			r := newRig(t)
			n := 0
			r.fault = func(s string) error {
				if s == step {
					if n++; n%3 == 0 {
						return errors.New("injected")
					}
				}
				return nil
			}
			r.configure(everything)
			r.start()
			all := r.many(12, "a", "b")
			r.configure(typo)
			r.settle()
			token := r.wantBlocked("24 of 24")
			r.want("held back", all)
			r.put("a00", "2")
			r.remove("b00")
			r.give(token)
			r.eventually("confirmed", func() bool { return len(r.desired()) == 0 })
			r.settle()
			assertMonotonic(t, r.read(r.topics.Desired))
		})
	}
}

// While one configuration waits, another comes that takes as much: nothing of
// what either keeps may go.
func TestAnotherConfigurationWhileBlocked(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	all := r.many(8, "a", "b")
	r.configure(typo)
	r.settle()
	first := r.wantBlocked("16 of 16")
	r.configure(another)
	r.settle()
	r.give(first)
	r.settle()
	second := r.wantBlocked("16 of 16")
	r.want("the token of one does not confirm another", all)
	if first == second {
		t.Errorf("both have the token %s", first)
	}
	r.configure(onlyA)
	r.settle()
	r.want("one that is within the limit", only(all, "a"))
}

func TestNamespaceLabelsAreTheUsersAct(t *testing.T) {
	const labelled = `{"resources":[{"version":"v1","resource":"configmaps","filters":{"namespaceSelector":{"matchLabels":{"dr":"on"}}}}]}`
	r := newRig(t)
	r.configure(labelled)
	r.start()
	all := r.many(12, "a")
	relabel := func(names ...string) {
		for _, name := range names {
			rec := r.object(name, "1")
			rec.Version.NamespaceRV, rec.NamespaceLabels = "8", m{"dr": "off"}
			r.append(r.topics.Changes, rec)
		}
	}
	r.configure(typo)
	r.settle()
	r.wantBlocked("12 of 12")
	relabel("a00", "a01")
	r.settle()
	delete(all, "a00")
	delete(all, "a01")
	r.want("also while the configuration waits", all)
	r.configure(labelled)
	r.settle()
	r.want("changed back", all)
	relabel(slices.Sorted(maps.Keys(all))...)
	r.settle()
	r.want("all of them", m{})
}

// The objects of a resource whose API version is edited are taken over under
// their new keys: nothing is lost.
func TestEditedVersionIsNoLoss(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	r.many(12, "a")
	r.configure(`{"resources":[{"version":"v2","resource":"configmaps"}]}`)
	r.settle()
	r.want("the old keys go", m{})
	r.configure(everything)
	r.settle()
	r.configure(`{"resources":[{"version":"v2","resource":"configmaps","filters":{"nameSelector":{"regex":["a00"]}}}]}`)
	r.settle()
	r.wantBlocked("11 of 12")
}

// What comes only after the whole of changes was computed counts all the same.
func TestLimitCountsWhatComesLate(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	all := r.many(12, "a")
	r.recreate(r.topics.Changes)
	r.configure(typo)
	r.settle()
	r.want("absent is not deleted", all)
	for name := range all {
		r.put(name, "1")
	}
	r.settle()
	got := r.desired()
	if len(got) < 12-10 {
		t.Errorf("%d of 12 are left", len(got))
	}
	r.wantBlocked("of 12 objects")
}

// When desired is lost while a configuration waits, those downstream ask about
// what they hold: the answer must not be the delete that waits.
func TestDesiredLostWhileBlocked(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	all := r.many(12, "a")
	r.configure(typo)
	r.settle()
	r.wantBlocked("12 of 12")
	r.kill()
	r.recreate(r.topics.Desired)
	r.start()
	r.settle()
	for name := range all {
		rec := r.object(name, "1")
		rec.Requested = true
		r.append(r.topics.Changes, rec)
	}
	r.eventually("blocked", func() bool { m, _ := r.blocked(); return m != "" })
	if n := r.tombstones(); n > 10 {
		t.Errorf("%d tombstones", n)
	}
	r.confirm()
	r.eventually("confirmed", func() bool { return r.tombstones() == len(all) })
	r.configure(everything)
	r.settle()
	r.want("it can come back", all)
}

// A zombie's older record behind that of a key which is held back must not
// delete or change it.
func TestZombieBehindWhatIsHeldBack(t *testing.T) {
	r := newRig(t)
	r.configure(everything)
	r.start()
	zombie := r.tombstone("a00")
	zombie.Writer, zombie.Version.Generation = "zombie", 1
	all := r.many(12, "a")
	r.configure(typo)
	r.settle()
	r.wantBlocked("12 of 12")
	r.append(r.topics.Desired, zombie)
	r.eventually("repaired", func() bool { return r.desired()["a00"] == "held" })
	r.configure(everything)
	r.settle()
	r.want("changed back", all)
}

func TestLimitOverPartitions(t *testing.T) {
	l := newPartitioned(t, 4)
	a := newMember(t, l.dial, l.topics, "a")
	for i := range 40 {
		l.put(fmt.Sprintf("a%02d", i), 1)
	}
	for i := range 30 {
		l.put(fmt.Sprintf("b%02d", i), 1)
	}
	l.wantLive("at first", 70)
	l.configure(2, `{"resources":[{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":["b.*"]}}}]}`)
	message, token := l.wantBlocked(a)
	if !strings.Contains(message, "40 of 70 objects of core/v1/configmaps") || strings.Contains(message, "partitions") {
		t.Errorf("message %q", message)
	}
	l.wantLive("blocked", 70)
	if l.deletes() != 0 {
		t.Errorf("%d tombstones", l.deletes())
	}
	s := a.Settings.Load()
	s.ConfirmPrune = token
	a.Settings.Set(s)
	l.wantLive("confirmed", 30)
	began := time.Now()
	l.configure(3, `{"resources":[{"version":"v1","resource":"configmaps","filters":{"nameSelector":{"regex":["b[12].*"]}}}]}`)
	l.wantLive("a small change", 20)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a small change took %s", took)
	}
}

// Each of several members judges its share, and one token answers all.
func TestLimitOverMembers(t *testing.T) {
	l := newPartitioned(t, 4)
	a, b := newMember(t, l.dial, l.topics, "a"), newMember(t, l.dial, l.topics, "b")
	for i := range 80 {
		l.put(fmt.Sprintf("a%02d", i), 1)
	}
	l.wantLive("at first", 80)
	for deadline := time.Now().Add(30 * time.Second); len(a.statuses()) != 2 || len(b.statuses()) != 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d and %d partitions", len(a.statuses()), len(b.statuses()))
		}
	}
	l.configure(2, typo)
	message, token := l.wantBlocked(a)
	if !strings.Contains(message, "2 of 4 partitions") {
		t.Errorf("message %q", message)
	}
	if _, other := l.wantBlocked(b); other != token {
		t.Errorf("tokens %s and %s", token, other)
	}
	l.wantLive("blocked", 80)
	b.stop()
	a.Settings.Set(a.Settings.Load())
	for deadline := time.Now().Add(30 * time.Second); len(a.statuses()) != 4; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the other's partitions were not taken over")
		}
	}
	time.Sleep(time.Second)
	l.wantLive("taken over, with no state", 80)
	if l.deletes() != 0 {
		t.Errorf("%d tombstones", l.deletes())
	}
	s := a.Settings.Load()
	s.ConfirmPrune = token
	a.Settings.Set(s)
	l.wantLive("confirmed", 0)
}

// A partition that is not ready keeps the others from judging, whatever it holds.
func TestJudgesOverAllPartitions(t *testing.T) {
	of := func(tracked, taken int64) share {
		return share{generation: 2, token: "config-2", done: true, tracked: map[string]int64{"r": tracked}, taken: map[string]int64{"r": taken}}
	}
	notDone, older, waits := of(100, 0), of(100, 0), of(100, 1)
	notDone.done, older.token, waits.blocked = false, "config-1", true
	for name, c := range map[string]struct {
		shares  []share
		settle  time.Duration
		confirm string
		want    verdict
	}{
		"small":                   {[]share{of(20, 20), of(100, 0)}, 0, "", allowed},
		"large":                   {[]share{of(20, 0), of(20, 21)}, 0, "", blocked},
		"all of them":             {[]share{of(3, 3), of(2, 2)}, 0, "", blocked},
		"few":                     {[]share{of(2, 2), of(2, 2)}, 0, "", allowed},
		"one is not ready":        {[]share{of(20, 20), notDone}, 0, "", undecided},
		"one has not read it":     {[]share{of(20, 1), older}, 0, "", undecided},
		"partitions just came":    {[]share{of(100, 1), of(100, 1)}, time.Hour, "", undecided},
		"one waits already":       {[]share{of(100, 1), waits}, 0, "", blocked},
		"confirmed":               {[]share{of(20, 20), waits}, 0, "config-2", allowed},
		"confirmed, one not done": {[]share{of(20, 20), notDone}, 0, "x,config-2", allowed},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(Options{Settle: c.settle, limit: breaker.Default()})
			p.total, p.changed = len(c.shares), time.Now()
			for i, s := range c.shares {
				w := &partition{Processor: p, number: int32(i)}
				w.now.share = s
				p.partitions[w.number] = w
			}
			if c.settle == 0 {
				p.changed = time.Now().Add(-time.Second)
			}
			s := newSettings().Load()
			s.ConfirmPrune = c.confirm
			if got, why := p.judge(s, c.shares[0]); got != c.want {
				t.Errorf("%d (%s), want %d", got, why, c.want)
			}
		})
	}
}

func (l *partitioned) configure(generation int64, replication string) {
	l.Helper()
	config := topology.Config{Namespace: "dr", Name: "ls", Generation: generation, SourceUID: "src"}
	if err := json.Unmarshal([]byte(replication), &config.Replication); err != nil {
		l.Fatal(err)
	}
	body, _ := json.Marshal(config)
	for p := range l.number {
		l.append(p, &topology.Record{Key: topology.ControlKey(topology.Configured, ""), Kind: topology.Configured, Body: body})
	}
}

func (l *partitioned) deletes() (n int) {
	for _, r := range l.records() {
		if r.Kind == topology.Object && r.Op == topology.Delete {
			n++
		}
	}
	return n
}

func (l *partitioned) wantLive(reason string, want int) {
	l.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		live := map[string]bool{}
		for _, r := range l.records() {
			if r.Kind == topology.Object {
				live[r.Key] = r.Body != nil
			}
		}
		n := 0
		for _, ok := range live {
			if ok {
				n++
			}
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("%s: %d live keys, want %d", reason, n, want)
		}
	}
}

func (l *partitioned) wantBlocked(of *member) (message, token string) {
	l.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var s v1alpha1.LiveSynchronizationStatus
		of.Report(&s)
		if message, token = blockedIn(&s); message != "" {
			return message, token
		}
		if time.Now().After(deadline) {
			l.Fatal("not blocked")
		}
	}
}
