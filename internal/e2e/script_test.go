package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// patience is how long a script waits for something to become true.
const patience = 30 * time.Second

// TestScenarios runs scenarios/*.txtar, each a behaviour a user was promised.
// The commands beside testscript's own:
//
//	source|destination apply FILE [MANAGER]      server-side apply every document
//	source|destination delete RESOURCE [NS/]NAME
//	source|destination patch RESOURCE [NS/]NAME JSON-MERGE-PATCH
//	[!] source|destination has RESOURCE [NS/]NAME [POINTER=JSON|POINTER!]…   waits until true
//	destination keeps DURATION RESOURCE [NS/]NAME [POINTER=JSON|POINTER!]…    true throughout
//	destination lacks DURATION RESOURCE [NS/]NAME                             absent throughout
//	destination deny DURATION FILE   waits until admission refuses the object (nothing is made)
//	source|destination counts RESOURCE NS N                                   waits for so many objects
//	source-down | source-up | destination-down | destination-up               cuts the way there
//	run FILE…        writes the manifests beside the clusters' and starts afterimage run
//	manifests FILE…  replaces the manifests while it runs
//	stop | kill | start
//	status POINTER=JSON…      waits until afterimage status says so
//	failing KEY REASON [TEXT] waits until the object is shown as failing
//	condition TYPE STATUS     waits for a condition
//	[!] recover|replay|rehearse [FLAG…] [/POINTER=JSON…]  runs it and looks at its report
//	moment                    notes a moment for recover --at MOMENT
//	resume                    runs afterimage resume
//	confirm-prune FILE        confirms what the PruneBlocked condition asks, in the manifest
func TestScenarios(t *testing.T) {
	if testing.Short() {
		t.Skip("needs two API servers; run without -short")
	}
	source, destination := clusters(t)
	binary := afterimage(t)
	testscript.Run(t, testscript.Params{
		Dir: "scenarios",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"source":      side("source"),
			"destination": side("destination"),
			"run":         cmdRun,
			"manifests":   cmdManifests,
			"stop":        func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(rigOf(ts).stop()) },
			"kill":        func(ts *testscript.TestScript, _ bool, _ []string) { rigOf(ts).kill() },
			"start":       func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(rigOf(ts).start()) },
			"status":      cmdStatus,
			"failing":     cmdFailing,
			"condition":   cmdCondition,

			"recover":  cmdReports("recover"),
			"replay":   cmdReports("replay"),
			"rehearse": cmdReports("rehearse"),
			"moment":   cmdMoment,
			"resume":   cmdResume,

			"confirm-prune":    cmdConfirmPrune,
			"source-down":      func(ts *testscript.TestScript, _ bool, _ []string) { rigOf(ts).source.cluster.down() },
			"source-up":        func(ts *testscript.TestScript, _ bool, _ []string) { rigOf(ts).source.cluster.up() },
			"destination-down": func(ts *testscript.TestScript, _ bool, _ []string) { rigOf(ts).destination.cluster.down() },
			"destination-up":   func(ts *testscript.TestScript, _ bool, _ []string) { rigOf(ts).destination.cluster.up() },
		},
		Setup: func(e *testscript.Env) error {
			r, err := newRig(e.WorkDir, binary, source, destination)
			if err != nil {
				return err
			}
			e.Values[rigKey{}] = r
			e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("DATA", r.dataDir())
			e.Defer(func() { r.close(failed(e.T()), e.T().Log) })
			return nil
		},
	})
}

type rigKey struct{}

// failed tells whether a script's test has failed; testscript's own T does not say.
func failed(t testscript.T) bool {
	f, ok := t.(interface{ Failed() bool })
	return !ok || f.Failed()
}

func rigOf(ts *testscript.TestScript) *rig { return ts.Value(rigKey{}).(*rig) }

func side(which string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) < 2 {
			ts.Fatalf("usage: %s apply|delete|patch|has|keeps|lacks …", which)
		}
		s := rigOf(ts).side(which)
		switch args[0] {
		case "apply":
			manager := "someone"
			if len(args) > 2 {
				manager = args[2]
			}
			ts.Check(s.apply(ts.ReadFile(args[1]), manager))
		case "delete":
			ts.Check(s.delete(args[1], args[2]))
		case "patch":
			ts.Check(s.patch(args[1], args[2], args[3]))
		case "has":
			check(ts, eventually(patience, func() error {
				err := s.has(args[1], args[2], args[3:])
				if neg {
					return inverted(err, args)
				}
				return err
			}))
		case "keeps":
			d, err := time.ParseDuration(args[1])
			ts.Check(err)
			check(ts, throughout(d, func() error { return s.has(args[2], args[3], args[4:]) }))
		case "lacks":
			d, err := time.ParseDuration(args[1])
			ts.Check(err)
			check(ts, throughout(d, func() error { return inverted(s.has(args[2], args[3], nil), args) }))
		case "deny":
			d, err := time.ParseDuration(args[1])
			ts.Check(err)
			check(ts, eventually(d, func() error { return s.denied(ts.ReadFile(args[2])) }))
		case "counts":
			check(ts, eventually(patience, func() error { return s.counts(args[1], args[2], number(args[3])) }))
		default:
			ts.Fatalf("unknown: %s %s", which, args[0])
		}
	}
}

func check(ts *testscript.TestScript, err error) {
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

func inverted(err error, args []string) error {
	if err == nil {
		return fmt.Errorf("still so: %s", strings.Join(args, " "))
	}
	return nil
}

func eventually(d time.Duration, try func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func throughout(d time.Duration, try func() error) error {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := try(); err != nil {
			return err
		}
	}
	return nil
}

func cmdRun(ts *testscript.TestScript, _ bool, args []string) {
	cmdManifests(ts, false, args)
	ts.Check(rigOf(ts).start())
}

func cmdManifests(ts *testscript.TestScript, _ bool, args []string) {
	var docs []string
	for _, f := range args {
		docs = append(docs, ts.ReadFile(f))
	}
	ts.Check(rigOf(ts).writeManifests(strings.Join(docs, "\n---\n")))
}

func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	check(ts, eventually(patience, func() error {
		s, err := rigOf(ts).status()
		if err != nil {
			return err
		}
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		if err := matches(v, args); err != nil {
			return fmt.Errorf("%w in status %s", err, b)
		}
		return nil
	}))
}

func cmdFailing(ts *testscript.TestScript, _ bool, args []string) {
	check(ts, eventually(patience, func() error {
		s, err := rigOf(ts).status()
		if err != nil {
			return err
		}
		for _, f := range s.Failing {
			if f.Object == args[0] && f.Reason == args[1] && (len(args) < 3 || strings.Contains(f.Message, args[2])) {
				return nil
			}
		}
		return fmt.Errorf("no failing object %v in %+v", args, s.Failing)
	}))
}

func cmdCondition(ts *testscript.TestScript, _ bool, args []string) {
	check(ts, eventually(patience, func() error {
		s, err := rigOf(ts).status()
		if err != nil {
			return err
		}
		for _, c := range s.Conditions {
			if c.Type == args[0] && string(c.Status) == args[1] {
				return nil
			}
		}
		return fmt.Errorf("no condition %v in %+v", args, s.Conditions)
	}))
}

// confirmation is how the PruneBlocked condition names what to write into the manifest.
var confirmation = regexp.MustCompile(`afterimage\.io/confirm-prune[=:] ?"?([^"\s]+)`)

// confirmed adds the annotation to a manifest.
func confirmed(manifest, token string) string {
	return strings.Replace(manifest, "metadata:\n", "metadata:\n  annotations:\n    afterimage.io/confirm-prune: \""+token+"\"\n", 1)
}

func cmdConfirmPrune(ts *testscript.TestScript, _ bool, args []string) {
	s, err := rigOf(ts).status()
	ts.Check(err)
	for _, c := range s.Conditions {
		if m := confirmation.FindStringSubmatch(c.Message); c.Type == "PruneBlocked" && m != nil {
			ts.Check(rigOf(ts).writeManifests(confirmed(ts.ReadFile(args[0]), m[1])))
			return
		}
	}
	ts.Fatalf("no PruneBlocked condition names its annotation: %+v", s.Conditions)
}

// clusterSide is one of the two clusters in the hands of a script.
type clusterSide struct {
	cluster *reached
	client  dynamic.Interface

	mu   sync.Mutex
	made map[schema.GroupVersionResource]map[string]bool
	find func(resourceOrKind string) (schema.GroupVersionResource, bool, error)
}

func (s *clusterSide) resource(resource, name string) (dynamic.ResourceInterface, string, error) {
	gvr, _, err := s.find(resource)
	if err != nil {
		return nil, "", err
	}
	if ns, n, ok := strings.Cut(name, "/"); ok {
		return s.client.Resource(gvr).Namespace(ns), n, nil
	}
	return s.client.Resource(gvr), name, nil
}

func (s *clusterSide) apply(manifest, manager string) error {
	for _, doc := range strings.Split(manifest, "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			return err
		}
		if len(o.Object) == 0 {
			continue
		}
		// A CRD just made takes a moment to be served.
		if err := eventually(patience, func() error {
			gvr, namespaced, err := s.find(o.GroupVersionKind().Kind + "." + o.GroupVersionKind().Group)
			if err != nil {
				return err
			}
			var c dynamic.ResourceInterface = s.client.Resource(gvr)
			if namespaced {
				c = s.client.Resource(gvr).Namespace(o.GetNamespace())
			} else {
				s.note(gvr, o.GetName())
			}
			_, err = c.Apply(context.Background(), o.GetName(), o, metav1.ApplyOptions{FieldManager: manager, Force: true})
			return err
		}); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// denied is nil when admission refuses a create of the object.
func (s *clusterSide) denied(manifest string) error {
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
		return err
	}
	gvr, _, err := s.find(o.GroupVersionKind().Kind + "." + o.GroupVersionKind().Group)
	if err != nil {
		return err
	}
	// A dry run asks admission as well, but not what has side effects.
	_, err = s.client.Resource(gvr).Namespace(o.GetNamespace()).Create(context.Background(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil {
		return fmt.Errorf("%s %s would be accepted", o.GetKind(), o.GetName())
	}
	return nil
}

func (s *clusterSide) delete(resource, name string) error {
	c, n, err := s.resource(resource, name)
	if err != nil {
		return err
	}
	return c.Delete(context.Background(), n, metav1.DeleteOptions{})
}

func (s *clusterSide) patch(resource, name, patch string) error {
	c, n, err := s.resource(resource, name)
	if err != nil {
		return err
	}
	_, err = c.Patch(context.Background(), n, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "someone"})
	return err
}

func (s *clusterSide) has(resource, name string, wants []string) error {
	c, n, err := s.resource(resource, name)
	if err != nil {
		return err
	}
	o, err := c.Get(context.Background(), n, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s %s: not found", resource, name)
	}
	if err != nil {
		return err
	}
	if err := matches(o.Object, wants); err != nil {
		b, _ := json.Marshal(o.Object)
		return fmt.Errorf("%s %s: %w in %s", resource, name, err, b)
	}
	return nil
}

func (s *clusterSide) counts(resource, ns string, want int) error {
	gvr, _, err := s.find(resource)
	if err != nil {
		return err
	}
	l, err := s.client.Resource(gvr).Namespace(ns).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(l.Items) != want {
		return fmt.Errorf("%d %s in %s, want %d", len(l.Items), resource, ns, want)
	}
	return nil
}

// matches checks POINTER=JSON and POINTER! against a value.
func matches(v any, wants []string) error {
	for _, w := range wants {
		if pointer, ok := strings.CutSuffix(w, "!"); ok {
			if got, found := lookUp(v, pointer); found {
				return fmt.Errorf("%s: got %v, want nothing", pointer, got)
			}
			continue
		}
		pointer, want, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%q: want POINTER=JSON, or POINTER! for nothing there", w)
		}
		got, _ := lookUp(v, pointer)
		b, err := json.Marshal(got)
		if err != nil {
			return err
		}
		if string(b) != want && string(b) != `"`+want+`"` {
			return fmt.Errorf("%s: got %s, want %s", pointer, b, want)
		}
	}
	return nil
}

func lookUp(v any, pointer string) (any, bool) {
	for _, p := range strings.Split(pointer, "/")[1:] {
		p = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
		switch t := v.(type) {
		case map[string]any:
			next, ok := t[p]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i := number(p)
			if i >= len(t) {
				return nil, false
			}
			v = t[i]
		default:
			return nil, false
		}
	}
	return v, true
}
