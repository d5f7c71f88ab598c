package synchronization

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/fence"
	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/pipeline"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

func TestKubernetesCreatesAndThenChangesNothing(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	for i := range 20 {
		r.configMap(fmt.Sprintf("c%d", i), "first")
	}
	out, err := r.pass()
	if err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Created: 20})
	if n := len(r.names(configMaps)); n != 20 {
		t.Errorf("%d ConfigMaps at the destination, want 20", n)
	}

	r.destination.Forget()
	if out, err = r.pass(); err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Unchanged: 20})
	if writes := r.writes(); len(writes) != 0 {
		t.Errorf("a pass with nothing to do made %d writes: %+v", len(writes), writes)
	}

	// Another data directory knows nothing, and finds the same.
	if err := os.RemoveAll(filepath.Join(r.dir, "data")); err != nil {
		t.Fatal(err)
	}
	if out, err = r.pass(); err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Unchanged: 20})
	if writes := r.writes(); len(writes) != 0 {
		t.Errorf("a pass without memory made %d writes: %+v", len(writes), writes)
	}
}

func TestKubernetesUpdatesPrunesAndRepairs(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	for _, name := range []string{"stays", "changes", "drifts", "vanishes", "goes"} {
		r.configMap(name, "first")
	}
	if _, err := r.pass(); err != nil {
		t.Fatal(err)
	}
	r.configMap("changes", "second")
	r.remove(r.atSource, configMaps, "goes")
	r.apply(r.atDestination, configMaps, r.namespace, "drifts", map[string]any{"data": map[string]any{"content": "somebody's"}})
	r.remove(r.atDestination, configMaps, "vanishes")
	r.apply(r.atDestination, configMaps, r.namespace, "foreign", map[string]any{"data": map[string]any{"content": "theirs"}})
	out, err := r.pass()
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Result; got.Deleted != 1 || got.Created+got.Updated != 3 || got.Unchanged != 1 || got.Failed != 0 {
		t.Errorf("the pass counted %+v, want one deleted, three written, one unchanged", got)
	}
	for name, want := range map[string]string{"stays": "first", "changes": "second", "drifts": "first", "vanishes": "first", "goes": "", "foreign": "theirs"} {
		if got := r.content(name); got != want {
			t.Errorf("%s is %q at the destination, want %q", name, got, want)
		}
	}
}

// What an earlier run put there is pruned by the next one, also where the log and
// the memory of the first are gone.
func TestKubernetesPrunesWithoutMemory(t *testing.T) {
	r := newKubernetesRig(t, secrets)
	for _, name := range []string{"a", "b", "c", "d"} {
		r.apply(r.atSource, secrets, r.namespace, name, nil)
	}
	if _, err := r.pass(); err != nil {
		t.Fatal(err)
	}
	r.remove(r.atSource, secrets, "b")
	if err := os.RemoveAll(filepath.Join(r.dir, "data")); err != nil {
		t.Fatal(err)
	}
	r.run.Name = r.run.GenerateName + "8k2zt" // another run of the same generateName
	r.write("")
	out, err := r.pass()
	if err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Deleted: 1, Unchanged: 3})
	if names := r.names(secrets); names["b"] || len(names) != 3 {
		t.Errorf("at the destination there are %v, want a, c and d", names)
	}
}

// When a pass has ended, the originals are in the bucket; with the bucket away it
// has not ended well.
func TestKubernetesStoresOriginals(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	s3 := testenv.StartS3(t)
	r.bucket(s3)
	for i := range 10 {
		r.configMap(fmt.Sprintf("c%d", i), "first")
	}
	if _, err := r.pass(); err != nil {
		t.Fatal(err)
	}
	list, err := s3.Client().ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: aws.String("originals"), Prefix: aws.String("default/" + Owner(r.run) + "/core-v1-configmaps/")})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Contents) != 10 {
		t.Errorf("%d originals are in the bucket at the end of the pass, want 10", len(list.Contents))
	}
	s3.Kill()
	r.configMap("c10", "first")
	if _, err := r.pass(); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("with the bucket away: %v; want a failure that names it", err)
	}
	if r.content("c10") != "first" {
		t.Error("the bucket being away kept an object from the destination")
	}
}

// Guarantee 9, in the counts of a run: what the source has and somebody else holds at
// the destination is not copied, so it has failed; what the source has not is not ours
// to delete, so it is skipped, or is no concern of the run at all.
func TestKubernetesLeavesForeignObjectsAlone(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	r.configMap("mine", "first")
	r.configMap("theirs", "mine")
	r.apply(r.atDestination, namespaces, "", r.namespace, nil)
	r.apply(r.atDestination, configMaps, r.namespace, "theirs", map[string]any{"data": map[string]any{"content": "theirs"}})
	out, err := r.pass()
	if err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Created: 1, Failed: 1})
	if len(out.Failures) != 1 || out.Failures[0].Object != "core/v1/configmaps/"+r.namespace+"/theirs" || out.Failures[0].Reason != "NotOwned" {
		t.Errorf("failures: %+v, want the one that is not ours", out.Failures)
	}
	r.apply(r.atDestination, configMaps, r.namespace, "only-there", map[string]any{"data": map[string]any{"content": "theirs"}})
	r.remove(r.atSource, configMaps, "theirs")
	if out, err = r.pass(); err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Unchanged: 1, Skipped: 1})
	for _, name := range []string{"theirs", "only-there"} {
		if got := r.content(name); got != "theirs" {
			t.Errorf("the foreign object %s was changed to %q", name, got)
		}
	}
}

func TestKubernetesBlocksAndConfirmsAMassDelete(t *testing.T) {
	r := newKubernetesRig(t, limitRanges, leases)
	for i := range 12 {
		r.apply(r.atSource, limitRanges, r.namespace, fmt.Sprintf("l%d", i), map[string]any{"spec": map[string]any{"limits": []any{}}})
		r.apply(r.atSource, leases, r.namespace, fmt.Sprintf("l%d", i), nil)
	}
	if _, err := r.pass(); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		r.remove(r.atSource, limitRanges, fmt.Sprintf("l%d", i))
		if i > 0 {
			r.remove(r.atSource, leases, fmt.Sprintf("l%d", i))
		}
	}
	r.apply(r.atSource, leases, r.namespace, "new", nil)
	out, err := r.pass()
	if !isPermanent(err) || !strings.Contains(fmt.Sprint(err), "afterimage.io/confirm-prune") {
		t.Fatalf("a delete of everything ended with %v; want a permanent failure that says how to confirm it", err)
	}
	if len(r.names(limitRanges)) != 12 || len(r.names(leases)) != 13 {
		t.Fatalf("of what was to be confirmed %v and %v are left", r.names(limitRanges), r.names(leases))
	}
	if out.Result.Created != 1 || out.Result.Deleted != 0 {
		t.Errorf("the pass counted %+v; want the new object created and nothing deleted", out.Result)
	}

	token := regexp.MustCompile(`confirm-prune: "([^"]+)"`).FindStringSubmatch(err.Error())
	if token == nil {
		t.Fatalf("no token in %q", err)
	}
	r.run.Annotations = map[string]string{"afterimage.io/confirm-prune": token[1]}
	r.write("")
	if out, err = r.pass(); err != nil {
		t.Fatal(err)
	}
	r.want(out, v1alpha1.SynchronizationResult{Deleted: 23, Unchanged: 2})
}

func TestKubernetesIsKilledAndGoesOn(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	const objects = 300
	for i := range objects {
		r.configMap(fmt.Sprintf("c%d", i), "first")
	}
	delay := r.destination.Add(faultproxy.Rule{Match: faultproxy.Writes(), Fault: faultproxy.Delay(100 * time.Millisecond)})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+r.dir)
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if created, _ := strconv.Atoi(lines.Text()); created > objects/10 {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	before := len(r.names(configMaps))
	if before == 0 || before == objects {
		t.Fatalf("%d of %d objects were there when it was killed: it was not in mid-pass", before, objects)
	}
	delay.Remove()
	out, err := r.pass()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.names(configMaps)); n != objects {
		t.Errorf("%d ConfigMaps at the destination, want %d", n, objects)
	}
	if got := out.Result; got.Created+got.Updated+got.Unchanged != objects || got.Created == 0 || got.Unchanged == 0 {
		t.Errorf("the second pass counted %+v, want the rest of %d created", got, objects)
	}
}

func TestKubernetesSourceUnreachable(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	r.configMap("a", "first")
	if _, err := r.pass(); err != nil {
		t.Fatal(err)
	}
	hang := r.source.Add(faultproxy.Rule{Fault: faultproxy.Abort()})
	out, err := r.pass()
	if err == nil || isPermanent(err) || !strings.Contains(err.Error(), "source cluster source cannot be reached") {
		t.Errorf("with the source away: %v; want a failure that may pass and names it", err)
	}
	r.want(out, v1alpha1.SynchronizationResult{})
	hang.Remove()

	// In mid-pass: the namespace's objects cannot be listed.
	r.configMap("b", "first")
	r.source.Add(faultproxy.Rule{Match: faultproxy.Match{Resource: "configmaps"}, Fault: faultproxy.Forbid()})
	out, err = r.pass()
	if err == nil || isPermanent(err) || !strings.Contains(err.Error(), "core/v1/configmaps cannot be read") {
		t.Errorf("with a resource that must not be listed: %v; want a failure that names it", err)
	}
	if r.content("a") != "first" || out.Result.Deleted != 0 {
		t.Errorf("something was deleted for it: %+v", out.Result)
	}
}

func TestKubernetesFenced(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	r.configMap("a", "first")
	if _, err := r.pass(); err != nil {
		t.Fatal(err)
	}
	raise(r)
	r.configMap("b", "first")
	out, err := r.pass()
	if !isPermanent(err) || !strings.Contains(err.Error(), "a recovery holds the destination") {
		t.Errorf("a fenced destination: %v; want a permanent failure that says so", err)
	}
	if r.content("b") != "" || out.Result.Created != 0 {
		t.Errorf("something was written past the fence: %+v", out.Result)
	}
}

func TestKubernetesRefusesTheNameOfALiveSynchronization(t *testing.T) {
	r := newKubernetesRig(t, configMaps)
	r.write(Owner(r.run))
	if _, err := r.pass(); !isPermanent(err) || !errors.Is(err, pipeline.ErrSameOwner) {
		t.Errorf("beside a LiveSynchronization of its name: %v; want it refused", err)
	}
}

func TestOwner(t *testing.T) {
	plan := metav1.OwnerReference{APIVersion: "automation.astronetes.io/v1alpha1", Kind: "SynchronizationPlan", Name: "nightly", Controller: new(true)}
	for want, meta := range map[string]metav1.ObjectMeta{
		"nightly": {Name: "nightly-29401", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x"}, plan}},
		"copy":    {Name: "copy-x7f2p", GenerateName: "copy-"},
		"once":    {Name: "once"},
	} {
		if got := Owner(&v1alpha1.Synchronization{ObjectMeta: meta}); got != want {
			t.Errorf("the owner of %+v is %q, want %q", meta, got, want)
		}
	}
}

// raise has a recovery hold the destination.
func raise(r *kubernetesRig) {
	r.t.Helper()
	c, err := kube.New(r.destination.RESTConfig())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := fence.New(c, r.run.Namespace, Owner(r.run)).Raise(context.Background(), "a recovery", nil); err != nil {
		r.t.Fatal(err)
	}
}
