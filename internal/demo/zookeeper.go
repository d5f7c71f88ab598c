package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/status"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

const (
	// nodeChurn is how long the source is edited while it is copied live.
	nodeChurn = 9 * time.Second
	// editsBetween two copies.
	editsBetween = 300
	// timed changes, of which the median is told.
	timed = 20
)

// nodeDemo is one demonstration of ZooKeeper.
type nodeDemo struct {
	Options
	story
	dir string
	// The spare is started when the source is lost.
	source, destination, spare *testcluster.ZooKeeper

	work   *znodes
	copied *ensemble
	run    *runner

	compared int
	// held is what the destination holds below locks, of the time when that was copied.
	held    map[string]znode
	latency time.Duration
	rpo     time.Duration
}

// RunZooKeeper shows how a ZooKeeper tree is copied, and tells whether all copies were
// equal. It ends by itself; Stay and Objects of the options are not used.
func RunZooKeeper(ctx context.Context, o Options) (equal bool, err error) {
	d := &nodeDemo{Options: o, story: story{out: o.Out, began: time.Now()}}
	if d.Binary, err = program(d.Binary); err != nil {
		return false, err
	}
	if d.dir, err = os.MkdirTemp("", "afterimage-demo-"); err != nil {
		return false, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, d.end()) }()
	if equal, err = d.show(ctx); err != nil && ctx.Err() != nil {
		return false, errors.New("stopped before its end")
	}
	return equal, err
}

// end ends everything that was started.
func (d *nodeDemo) end() error {
	if d.run != nil {
		d.run.stop()
	}
	var errs []error
	for _, c := range []*ensemble{d.sourceClient(), d.copied} {
		if c != nil {
			c.Close()
		}
	}
	for _, z := range []*testcluster.ZooKeeper{d.source, d.destination, d.spare} {
		if z != nil {
			errs = append(errs, z.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

func (d *nodeDemo) sourceClient() *ensemble {
	if d.work == nil {
		return nil
	}
	return d.work.ensemble
}

func (d *nodeDemo) start(ctx context.Context, name string) (*testcluster.ZooKeeper, error) {
	return testcluster.StartZooKeeper(ctx, testcluster.ZooKeeperConfig{Dir: filepath.Join(d.dir, name), Progress: d.Progress})
}

func (d *nodeDemo) startBoth(ctx context.Context) error {
	d.say("looking for Apache ZooKeeper (fetched the first time)")
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { d.source, errs[0] = d.start(ctx, "source") })
	wg.Go(func() { d.destination, errs[1] = d.start(ctx, "destination") })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	d.say("two servers run: the source at %s, the destination at %s", d.source.Addr(), d.destination.Addr())
	client, err := connect(d.source.Addr())
	if err != nil {
		return err
	}
	d.work = newZnodes(client)
	d.copied, err = connect(d.destination.Addr())
	return err
}

// show is the story.
func (d *nodeDemo) show(ctx context.Context) (bool, error) {
	if err := d.startBoth(ctx); err != nil {
		return false, err
	}
	if err := d.work.fill(); err != nil {
		return false, fmt.Errorf("filling the source: %w", err)
	}
	d.say("the source holds %s: text, binary, empty and null data, a chain of %d, %d ephemeral nodes, a container, a TTL node, names in Unicode", treeRoot, depth, ephemerals)
	d.run = &runner{binary: d.Binary, dataDir: filepath.Join(d.dir, "data"), logs: filepath.Join(d.dir, "afterimage.log")}
	for _, part := range []func(context.Context) (bool, error){d.once, d.byPlan, d.live, d.lost} {
		if equal, err := part(ctx); err != nil || !equal {
			if err == nil {
				_, _ = fmt.Fprintf(d.Out, "\nNOT equal.\n%s", d.run.trouble(ctx))
			}
			return false, err
		}
	}
	_, _ = fmt.Fprintf(d.Out, `
  nodes compared     %d, in all comparisons
  differences        0
  edits              %s
  SIGKILLs           %d to afterimage, 1 to the source
  a live change      arrived after %s (median of %d)
  proved at the end  as the source was %s before (RPO)
  time               %.0f s

Every copy was equal to the source.
`, d.compared, d.work.edits(), d.run.kills, roundly(d.latency), timed, roundly(d.rpo), time.Since(d.began).Seconds())
	return true, nil
}

// manifests writes a folder of them.
func (d *nodeDemo) manifests(name string, destination *testcluster.ZooKeeper, samples []string, own map[string]string) (string, error) {
	dir := filepath.Join(d.dir, name)
	return dir, writeNodeManifests(dir, d.source.Addr(), destination.Addr(), samples, own)
}

// once runs the document's Synchronization, twice.
func (d *nodeDemo) once(ctx context.Context) (bool, error) {
	d.say("ONCE: the document's Synchronization as it is, beside two Databases")
	dir, err := d.manifests("once", d.destination, []string{sampleOnce}, nil)
	if err != nil {
		return false, err
	}
	if err := d.sync(ctx, "-f", dir); err != nil {
		return false, err
	}
	if equal, err := d.compare(); err != nil || !equal {
		return false, err
	}
	before, err := d.destination.Writes(ctx)
	if err != nil {
		return false, err
	}
	d.say("the same again, with nothing to do")
	if err := d.sync(ctx, "-f", dir); err != nil {
		return false, err
	}
	after, err := d.destination.Writes(ctx)
	if err != nil {
		return false, err
	}
	d.say("the destination's own count of writes went from %d to %d", before, after)
	if after != before {
		return false, fmt.Errorf("a copy that had nothing to do wrote %d times", after-before)
	}
	return true, nil
}

// sync runs afterimage sync and shows its report.
func (d *nodeDemo) sync(ctx context.Context, args ...string) error {
	args = append([]string{"sync", "--data-dir", d.run.dataDir}, args...)
	d.say("afterimage %s", strings.Join(args, " "))
	report, err := output(ctx, d.Binary, args...)
	d.quote(report)
	if err != nil {
		return fmt.Errorf("synchronizing: %w", err)
	}
	return nil
}

// compare reads both sides and says what differs.
func (d *nodeDemo) compare(excluded ...string) (bool, error) {
	source, err := d.work.read(treeRoot, excluded...)
	if err != nil {
		return false, err
	}
	copied, err := d.copied.read(treeRoot, excluded...)
	if err != nil {
		return false, err
	}
	return d.report("both sides", source, copied)
}

func (d *nodeDemo) report(what string, source, copied map[string]znode) (bool, error) {
	if len(source) == 0 {
		return false, errors.New("nothing was compared")
	}
	d.compared += len(source)
	diff := differences(source, copied)
	d.say("%s read and compared node by node: %d nodes, %d differences", what, len(source), len(diff))
	list(&d.story, diff)
	return len(diff) == 0, nil
}

func (d *nodeDemo) editSome() error {
	for range editsBetween {
		if err := d.work.edit(); err != nil {
			return fmt.Errorf("editing the source: %w", err)
		}
	}
	d.say("%d edits in the source", editsBetween)
	return nil
}

// byPlan runs the document's plan, and one that can be waited for.
func (d *nodeDemo) byPlan(ctx context.Context) (bool, error) {
	d.say("BY PLAN: the document's SynchronizationPlan as it is, and one that runs every minute")
	if err := d.editSome(); err != nil {
		return false, err
	}
	edited := time.Now()
	var err error
	if d.run.manifests, err = d.manifests("plan", d.destination, []string{samplePlan}, map[string]string{"every-minute.yaml": everyMinute}); err != nil {
		return false, err
	}
	d.say("afterimage run -f %s --data-dir %s", d.run.manifests, d.run.dataDir)
	if err := d.run.start(); err != nil {
		return false, err
	}
	p, err := d.run.await(ctx, patience, scheduled)
	if err != nil {
		return false, err
	}
	for _, plan := range p.SynchronizationPlans {
		next := plan.Status.NextScheduleTime.Time
		d.say("SynchronizationPlan %s, schedule %s: runs next at %s, in %.0f s", plan.Name, plan.Schedule, next.UTC().Format("15:04:05Z"), time.Until(next).Seconds())
	}
	p, err = d.run.await(ctx, patience, func(p status.Process) error { return ranSince(p, edited) })
	if err != nil {
		return false, err
	}
	for _, s := range p.Synchronizations {
		r := s.Status.Result
		d.say("Synchronization %s is %s: %d created, %d updated, %d deleted, %d unchanged", s.Name, s.Status.State, r.Created, r.Updated, r.Deleted, r.Unchanged)
	}
	d.run.stop()
	return d.compare()
}

// scheduled says which plan has no next time yet.
func scheduled(p status.Process) error {
	const both = 2
	if len(p.SynchronizationPlans) != both {
		return fmt.Errorf("%d plans are known, want %d", len(p.SynchronizationPlans), both)
	}
	for _, plan := range p.SynchronizationPlans {
		if plan.Status.NextScheduleTime == nil {
			return fmt.Errorf("plan %s is not scheduled", plan.Name)
		}
	}
	return nil
}

// ranSince says why no run that began after a moment is complete.
func ranSince(p status.Process, at time.Time) error {
	for _, s := range p.Synchronizations {
		switch {
		case s.Status.State == v1alpha1.StateFailed:
			return final{fmt.Errorf("%s failed: %v", s.Name, s.Status.Conditions)}
		case s.Status.State == v1alpha1.StateComplete && s.Status.StartTime.After(at):
			return nil
		}
	}
	return errors.New("no run is complete")
}

// live keeps both sides equal while the source is edited and afterimage is killed.
func (d *nodeDemo) live(ctx context.Context) (bool, error) {
	d.say("LIVE: a LiveSynchronization that leaves %s out", locks)
	var err error
	if d.held, err = d.copied.read(locks); err != nil {
		return false, err
	}
	if d.run.manifests, err = d.manifests("live", d.destination, nil, map[string]string{"live.yaml": liveNodes}); err != nil {
		return false, err
	}
	if err := errors.Join(d.work.lock(), d.editSome()); err != nil {
		return false, err
	}
	began := time.Now()
	d.say("afterimage run -f %s --data-dir %s", d.run.manifests, d.run.dataDir)
	if err := d.run.start(); err != nil {
		return false, err
	}
	if err := d.run.awaitReady(ctx, began, patience); err != nil {
		return false, err
	}
	d.say("Ready, %.1f s after the start", time.Since(began).Seconds())
	if err := d.measure(ctx); err != nil {
		return false, err
	}
	if err := d.churn(ctx); err != nil {
		return false, err
	}
	edited := time.Now()
	d.say("the source is at rest; waiting for the proof that the destination is as it is now")
	if err := d.run.awaitReady(ctx, edited, patience); err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		d.say("%v", err) // the comparison will say more than a state does
	} else {
		d.say("proved %.1f s after the last edit", time.Since(edited).Seconds())
	}
	if equal, err := d.compare(locks); err != nil || !equal {
		return false, err
	}
	return d.leftAlone()
}

// leftAlone tells whether what is excluded is at the destination as it was.
func (d *nodeDemo) leftAlone() (bool, error) {
	is, err := d.copied.read(locks)
	if err != nil {
		return false, err
	}
	diff := differences(d.held, is)
	d.say("%s, which changed in the source, is at the destination as it was: %d nodes, %d differences", locks, len(d.held), len(diff))
	list(&d.story, diff)
	return len(diff) == 0, nil
}

// measure times changes one by one.
func (d *nodeDemo) measure(ctx context.Context) error {
	took := make([]time.Duration, timed)
	for i := range took {
		var err error
		if took[i], err = d.work.latency(ctx, d.copied, i+1); err != nil {
			return err
		}
	}
	slices.Sort(took)
	d.latency = took[timed/2]
	d.say("%d changes, one by one: at the destination after %s (median), %s at most", timed, roundly(d.latency), roundly(took[timed-1]))
	return nil
}

// churn edits the source; in the middle afterimage is killed and started again.
func (d *nodeDemo) churn(ctx context.Context) error {
	d.say("creating, editing, deleting and recreating in the source for %s", nodeChurn)
	ctx, cancel := context.WithCancel(ctx)
	var editing sync.WaitGroup
	var failed error
	editing.Go(func() { failed = d.work.churn(ctx, nodeChurn) })
	defer editing.Wait() // it works with a client that is closed after this
	defer cancel()
	pause(ctx, nodeChurn/2)
	if err := d.run.kill(); err != nil {
		return err
	}
	d.say("SIGKILL to afterimage, in the middle of it")
	pause(ctx, nodeChurn/6)
	if err := d.run.start(); err != nil {
		return err
	}
	d.say("afterimage started again")
	editing.Wait()
	return failed
}

// lost has the source end for good, and brings its last state from the log to a server
// that has nothing.
func (d *nodeDemo) lost(ctx context.Context) (bool, error) {
	last, err := d.work.read(treeRoot, locks)
	if err != nil {
		return false, err
	}
	p, err := status.Get(ctx, d.run.dataDir)
	if err != nil {
		return false, err
	}
	if len(p.LiveSynchronizations) == 0 || p.LiveSynchronizations[0].Status.RPO == nil {
		return false, errors.New("the status has no RPO")
	}
	d.rpo = p.LiveSynchronizations[0].Status.RPO.Duration
	if err := d.source.Kill(); err != nil {
		return false, err
	}
	d.run.stop()
	d.say("LOST: SIGKILL to the source, which does not come back; the standby was proved to be as it was %s before", roundly(d.rpo))
	d.say("starting an empty third server")
	if d.spare, err = d.start(ctx, "spare"); err != nil {
		return false, err
	}
	dir, err := d.manifests("lost", d.spare, nil, map[string]string{"bring-back.yaml": bringBack})
	if err != nil {
		return false, err
	}
	if err := d.sync(ctx, "-f", dir, "--from", "log"); err != nil {
		return false, err
	}
	spare, err := connect(d.spare.Addr())
	if err != nil {
		return false, err
	}
	defer spare.Close()
	is, err := spare.read(treeRoot)
	if err != nil {
		return false, err
	}
	return d.report("the third server", last, is)
}

// roundly is a duration as people say it.
func roundly(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(100 * time.Millisecond)
}
