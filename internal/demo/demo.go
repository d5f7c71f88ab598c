package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/afterimage-dr/afterimage/internal/compare"
	"github.com/afterimage-dr/afterimage/internal/manifest"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// DefaultObjects to begin with, about.
const DefaultObjects = 400

// churnFor is how long the source is edited; the kill falls in the middle.
const churnFor = 12 * time.Second

// patience until everything is Ready; generous, because machines are slow, and
// over long before on those that are not.
const patience = 5 * time.Minute

// Options of a demonstration.
type Options struct {
	// Out takes the story and the report, Progress what is being built.
	Out, Progress io.Writer
	// Stay keeps everything up afterwards until the context ends.
	Stay bool
	// Objects in the source to begin with, about.
	Objects int
	// Binary to run; default: this one.
	Binary string
}

// demo is one demonstration.
type demo struct {
	Options
	story
	dir                 string
	source, destination *testcluster.Cluster
}

// Run shows it and tells whether both clusters were equal in the end.
func Run(ctx context.Context, o Options) (equal bool, err error) {
	d := &demo{Options: o, story: story{out: o.Out, began: time.Now()}}
	if d.Objects <= 0 {
		d.Objects = DefaultObjects
	}
	if d.Binary, err = program(d.Binary); err != nil {
		return false, err
	}
	if d.dir, err = os.MkdirTemp("", "afterimage-demo-"); err != nil {
		return false, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(d.dir) }()
	if err := d.startClusters(ctx); err != nil {
		return false, errors.Join(err, d.stopClusters())
	}
	defer func() { err = errors.Join(err, d.stopClusters()) }()
	if equal, err = d.show(ctx); err != nil && ctx.Err() != nil {
		return false, errors.New("stopped before its end")
	}
	return equal, err
}

func (d *demo) startClusters(ctx context.Context) error {
	d.say("looking for kube-apiserver, kube-controller-manager and etcd (built the first time, which takes minutes)")
	assets, err := testcluster.Assets(ctx, d.Progress)
	if err != nil {
		return err
	}
	d.say("starting two control planes, each etcd, kube-apiserver and kube-controller-manager")
	var wg sync.WaitGroup
	var errs [2]error
	for i, c := range []struct {
		name string
		to   **testcluster.Cluster
	}{{"source", &d.source}, {"destination", &d.destination}} {
		wg.Go(func() {
			*c.to, errs[i] = testcluster.Start(ctx, testcluster.Config{
				Name: c.name, Dir: filepath.Join(d.dir, c.name), Assets: assets, ControllerManager: true, Progress: d.Progress,
			})
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func (d *demo) stopClusters() error {
	var errs []error
	for _, c := range []*testcluster.Cluster{d.source, d.destination} {
		if c != nil {
			errs = append(errs, c.Stop())
		}
	}
	return errors.Join(errs...)
}

// show is the story.
func (d *demo) show(ctx context.Context) (bool, error) {
	work, err := newWorkload(d.source.RESTConfig())
	if err != nil {
		return false, err
	}
	n, err := work.fill(ctx, d.Objects)
	if err != nil {
		return false, fmt.Errorf("filling the source: %w", err)
	}
	d.say("the source holds %d objects in %d namespaces", n, len(namespaces))

	manifests, err := d.writeManifests()
	if err != nil {
		return false, err
	}
	run := &runner{binary: d.Binary, manifests: manifests, dataDir: filepath.Join(d.dir, "data"), logs: filepath.Join(d.dir, "afterimage.log")}
	defer run.stop()
	if err := run.start(); err != nil {
		return false, err
	}
	d.say("afterimage run -f %s", manifests)
	began := time.Now()
	if err := run.awaitReady(ctx, time.Now(), patience); err != nil {
		return false, err
	}
	d.say("Ready: the destination holds everything, %.1f s after the start", time.Since(began).Seconds())

	if err := d.churn(ctx, work, run); err != nil {
		return false, err
	}
	edited := time.Now()
	d.say("the source is at rest; waiting for the proof that the destination is as it is now")
	d.say("(about a minute: an API server tells an idle watch only once a minute how far it is)")
	if err := run.awaitReady(ctx, edited, patience); err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		d.say("%v", err) // the comparison will say more than a state does
	} else {
		d.say("Ready again, and proved %.1f s after the last edit", time.Since(edited).Seconds())
	}
	equal, err := d.report(ctx, manifests, work, run)
	if err != nil {
		return false, err
	}
	if equal {
		if equal, err = d.disaster(ctx, work, run); err != nil {
			return false, err
		}
		if !equal {
			_, _ = fmt.Fprint(d.Out, "\nThe recovery did NOT bring everything back.\n")
		}
	}
	if d.Stay {
		d.stay(ctx, run, equal)
	}
	return equal, nil
}

// churn edits the source all the while; in the middle Afterimage is killed and
// started again.
func (d *demo) churn(ctx context.Context, work *workload, run *runner) error {
	d.say("creating, editing, deleting and recreating in the source for %s", churnFor)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work.churn(ctx, churnFor) }()
	pause(ctx, churnFor/2)
	if err := run.kill(); err != nil {
		return err
	}
	d.say("SIGKILL to afterimage, in the middle of it")
	pause(ctx, churnFor/6)
	if err := run.start(); err != nil {
		return err
	}
	d.say("afterimage started again")
	if err := <-done; err != nil {
		return fmt.Errorf("editing the source: %w", err)
	}
	return nil
}

// report compares both clusters and says what it found.
func (d *demo) report(ctx context.Context, manifests string, work *workload, run *runner) (bool, error) {
	set, err := manifest.Load([]string{manifests})
	if err != nil {
		return false, err
	}
	var objects int
	var differences []compare.Difference
	began := time.Now()
	for _, ls := range set.LiveSynchronizations {
		r, err := compare.Run(ctx, d.source.RESTConfig(), d.destination.RESTConfig(), set.SettingsFor(ls).Config)
		if err != nil {
			return false, fmt.Errorf("comparing the clusters: %w", err)
		}
		objects += r.Total()
		differences = append(differences, r.Differences...)
	}
	d.say("both clusters read and compared object by object in %.1f s", time.Since(began).Seconds())
	created, updated, deleted, recreated := work.counts()
	_, _ = fmt.Fprintf(d.Out, `
  objects compared   %d
  differences        %d
  live edits         %d created, %d updated, %d deleted, %d deleted and recreated
  SIGKILLs           %d
  time               %.0f s
`, objects, len(differences), created, updated, deleted, recreated, run.kills, time.Since(d.began).Seconds())
	list(&d.story, differences)
	if len(differences) > 0 {
		_, _ = fmt.Fprintf(d.Out, "\nNOT equal.\n%s", run.trouble(ctx))
		return false, nil
	}
	if objects == 0 {
		return false, errors.New("nothing was compared")
	}
	_, _ = fmt.Fprint(d.Out, "\nThe destination is equal to the source, as the manifests transform it.\n")
	return true, nil
}

// stay shows what to try and waits.
func (d *demo) stay(ctx context.Context, run *runner, equal bool) {
	if equal {
		_, _ = fmt.Fprintf(d.Out, `
The recovered destination is still running. In another terminal:

  export DESTINATION=%[1]s
  kubectl --kubeconfig $DESTINATION get deployments --all-namespaces
  %[2]s status --data-dir %[3]s
  %[2]s audit --data-dir %[3]s --livesync everything-else/everything-else --op delete

Ctrl-C stops it and removes everything.
`, d.kubeconfig("destination"), d.Binary, run.dataDir)
	} else {
		_, _ = fmt.Fprintf(d.Out, "\nEverything is still running; logs in %s, kubeconfigs %s and %s. Ctrl-C stops it.\n", run.logs, d.kubeconfig("source"), d.kubeconfig("destination"))
	}
	<-ctx.Done()
	_, _ = fmt.Fprintln(d.Out)
	d.say("stopping")
}

func (d *demo) kubeconfig(name string) string { return filepath.Join(d.dir, name+".kubeconfig") }
