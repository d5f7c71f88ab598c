package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, dir string) (*Embedded, *Client) {
	t.Helper()
	e, err := StartEmbedded(dir)
	must(t, err)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := NewClient(e.Dial(), "test")
	must(t, err)
	t.Cleanup(c.Close)
	return e, c
}

func rec(topic string, p int32, key, value string) *kgo.Record {
	r := &kgo.Record{Topic: topic, Partition: p, Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	return r
}

func compacted(partitions int32) TopicSettings {
	return TopicSettings{Partitions: partitions, Replication: -1, Configs: map[string]string{"cleanup.policy": "compact"}}
}

func TestFolderIsLocked(t *testing.T) {
	dir := t.TempDir()
	e, _ := start(t, dir)
	if _, err := StartEmbedded(dir); !errors.Is(err, ErrInUse) {
		t.Fatalf("second broker: %v, want ErrInUse", err)
	}
	must(t, e.Close())
	start(t, dir)
}

// state of a partition: each key's last value, and how many records there are.
func lastValues(t testing.TB, c *Client, topic string, p int32) (values map[string]string, records int) {
	t.Helper()
	b, err := c.Bounds(testContext(t), topic, p)
	must(t, err)
	values = map[string]string{}
	must(t, c.Read(testContext(t), topic, p, 0, b.End, func(r *kgo.Record) error {
		values[string(r.Key)] = string(r.Value)
		records++
		return nil
	}))
	return values, records
}

func TestCompactKeepsTheLastAndTheOffsets(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	e, c := start(t, dir)
	_, err := c.Ensure(ctx, "t", compacted(2))
	must(t, err)
	w, err := c.Writer()
	must(t, err)
	if !e.HistoryFloor().IsZero() {
		t.Error("a new log has a history floor")
	}
	for i := range 200 {
		must(t, w.AppendSync(ctx, rec("t", 0, fmt.Sprintf("k%d", i%10), fmt.Sprint(i))))
	}
	must(t, w.AppendSync(ctx, rec("t", 0, "k3", ""))) // a tombstone stays for delete.retention.ms
	want, _ := lastValues(t, c, "t", 0)
	tail, err := c.Tail("t", 0, 0)
	must(t, err)
	defer tail.Close()

	before := time.Now()
	must(t, e.Compact())
	floor := e.HistoryFloor()
	if floor.Before(before) || floor.After(time.Now()) {
		t.Errorf("history floor %v", floor)
	}
	got, records := lastValues(t, c, "t", 0)
	if fmt.Sprint(got) != fmt.Sprint(want) || records > 12 {
		t.Fatalf("%d records, %v, want %v", records, got, want)
	}
	b, err := c.Bounds(ctx, "t", 0)
	must(t, err)
	if b.End != 201 {
		t.Errorf("the log ends at %d, want 201", b.End)
	}
	must(t, w.AppendSync(ctx, rec("t", 0, "new", "x")))
	w.Close()
	must(t, e.Close())
	if _, err := os.Stat(filepath.Join(dir, linksDir)); !os.IsNotExist(err) {
		t.Errorf("links left behind: %v", err)
	}

	e, c = start(t, dir)
	if !e.HistoryFloor().Equal(floor) {
		t.Errorf("history floor %v after a restart, want %v", e.HistoryFloor(), floor)
	}
	want["new"] = "x"
	if got, _ := lastValues(t, c, "t", 0); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after a restart %v, want %v", got, want)
	}
}

// TestCrashWhileCompacting leaves what a SIGKILL leaves in the middle of the
// cleaner's work: some partitions without files, some half written, some done.
func TestCrashWhileCompacting(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	e, c := start(t, dir)
	_, err := c.Ensure(ctx, "t", compacted(4))
	must(t, err)
	w, err := c.Writer()
	must(t, err)
	for i := range 400 {
		must(t, w.AppendSync(ctx, rec("t", int32(i%4), fmt.Sprintf("k%d", i%40), fmt.Sprint(i))))
	}
	var want [4]string
	for p := range int32(4) {
		v, _ := lastValues(t, c, "t", p)
		want[p] = fmt.Sprint(v)
	}
	e.mu.Lock()
	must(t, e.link())
	e.mu.Unlock()
	e.cluster.Compact()
	w.Close()
	c.Close()
	must(t, e.Close())

	part := func(n int) string { return filepath.Join(e.logDir(), partitions, fmt.Sprintf("t-%d", n)) }
	segment := func(n int) string {
		files, err := filepath.Glob(filepath.Join(part(n), "*"+segmentExt))
		if err != nil || len(files) != 1 {
			t.Fatalf("segments %v %v", files, err)
		}
		return files[0]
	}
	must(t, os.Remove(segment(0)))                    // removed, nothing written yet
	must(t, os.Truncate(segment(1), 0))               // begun
	info, err := os.Stat(segment(2))                  //
	must(t, err)                                      //
	must(t, os.Truncate(segment(2), info.Size()/2+7)) // in the middle; 3 is done

	_, c = start(t, dir)
	for p := range int32(4) {
		got, records := lastValues(t, c, "t", p)
		if fmt.Sprint(got) != want[p] {
			t.Errorf("partition %d holds %v, want %v", p, got, want[p])
		}
		if wantAll := p < 3; wantAll != (records == 100) {
			t.Errorf("partition %d: %d records", p, records)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, linksDir)); !os.IsNotExist(err) {
		t.Errorf("links left behind: %v", err)
	}
}

// A machine that goes down may take the newest records along, and their offsets
// are given again. Whoever rests on them is told at every start until it has
// forgotten them; the end of a process tells nothing of the kind.
func TestMachineWentDown(t *testing.T) {
	dir := t.TempDir()
	machine := bootID
	t.Cleanup(func() { bootID = machine })
	boot := "first"
	bootID = func() string { return boot }
	begin := func(o EmbeddedOptions) *Embedded {
		t.Helper()
		e, err := StartEmbeddedWith(dir, o)
		must(t, err)
		return e
	}
	// die ends the broker as SIGKILL does: nothing is said about it.
	die := func(e *Embedded) {
		t.Helper()
		note, err := os.ReadFile(filepath.Join(dir, runningFile))
		must(t, err)
		must(t, e.Close())
		must(t, os.WriteFile(filepath.Join(dir, runningFile), note, 0o600))
	}
	check := func(what string, e *Embedded, want bool) {
		t.Helper()
		if e.MayHaveLost() != want {
			t.Errorf("%s: records may be lost: %v", what, e.MayHaveLost())
		}
	}
	e := begin(EmbeddedOptions{})
	check("new", e, false)
	die(e)
	e = begin(EmbeddedOptions{})
	check("killed", e, false)
	must(t, e.Close())
	boot = "second"
	e = begin(EmbeddedOptions{})
	check("closed before the machine went down", e, false)
	die(e)
	boot = "third"
	e = begin(EmbeddedOptions{SyncWrites: true})
	check("every append waits for the disk", e, false)
	die(e)
	boot = "fourth"
	for range 2 {
		e = begin(EmbeddedOptions{})
		check("went down", e, true)
		must(t, e.Close()) // before anybody acted upon it
	}
	e = begin(EmbeddedOptions{})
	check("went down", e, true)
	must(t, e.Forgotten())
	die(e)
	e = begin(EmbeddedOptions{})
	check("acted upon", e, false)
	must(t, e.Close())
}

// After a power loss in the middle of cleaning, a partition whose end is there may
// still have lost what is before it.
func TestMachineWentDownWhileCompacting(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	e, c := start(t, dir)
	_, err := c.Ensure(ctx, "t", compacted(1))
	must(t, err)
	w, err := c.Writer()
	must(t, err)
	for i := range 100 {
		must(t, w.AppendSync(ctx, rec("t", 0, fmt.Sprintf("k%d", i%40), fmt.Sprint(i))))
	}
	want, _ := lastValues(t, c, "t", 0)
	e.mu.Lock()
	must(t, e.link())
	e.mu.Unlock()
	e.cluster.Compact()
	w.Close()
	c.Close()
	must(t, e.Close())
	must(t, os.WriteFile(filepath.Join(dir, runningFile), []byte("another boot"), 0o600))
	e, c = start(t, dir)
	got, records := lastValues(t, c, "t", 0)
	if fmt.Sprint(got) != fmt.Sprint(want) || records != 100 || !e.MayHaveLost() {
		t.Errorf("%d records %v, want all 100: %v", records, got, want)
	}
}

const killedDir = "AFTERIMAGE_STREAM_KILLED_DIR"

// TestKilledChild is the process that the next test kills.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		return // nothing to do by itself: TestSIGKILLAtAnyTime runs it
	}
	ctx := context.Background()
	e, err := StartEmbedded(dir)
	must(t, err)
	c, err := NewClient(e.Dial(), "child")
	must(t, err)
	_, err = c.Ensure(ctx, "t", compacted(3))
	must(t, err)
	w, err := c.Writer()
	must(t, err)
	ps, err := c.Partitions(ctx, "t")
	must(t, err)
	go func() {
		for { // groups too must survive, and cleaning at any time
			g := &Group{Client: c, Name: "g", Topic: "t", InstanceID: "x", Run: func(ctx context.Context, a *Assignment) error {
				for i := int64(0); ctx.Err() == nil; i++ {
					a.Commit(i)
					time.Sleep(time.Millisecond)
				}
				return nil
			}}
			_ = g.Serve(ctx)
		}
	}()
	go func() {
		for {
			time.Sleep(15 * time.Millisecond)
			if err := e.Compact(); err != nil {
				fmt.Println("compact:", err)
			}
		}
	}()
	from := max(ps[0].End, ps[1].End, ps[2].End)
	for i := from; ; i++ {
		pad := strings.Repeat("x", int(i%50)*100)
		must(t, w.AppendSync(ctx,
			rec("t", 0, fmt.Sprintf("k%d", i%30), fmt.Sprint(i)+pad),
			rec("t", 1, fmt.Sprintf("k%d", i%30), fmt.Sprint(i)+pad),
			rec("t", 2, fmt.Sprintf("k%d", i%30), fmt.Sprint(i)+pad)))
		fmt.Println(i)
	}
}

// TestSIGKILLAtAnyTime: the folder loads again, and what was acknowledged is
// there, cleaning or not (guarantee 10).
func TestSIGKILLAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	want := map[string]int64{} // key → last acknowledged number
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var kill <-chan time.Time
		acknowledged := 0
		lines := make(chan string)
		go func() {
			defer close(lines)
			for in := bufio.NewScanner(out); in.Scan(); {
				lines <- in.Text()
			}
		}()
		for open := true; open; {
			select {
			case line, ok := <-lines:
				open = ok
				if !ok {
					break
				}
				n, err := strconv.ParseInt(line, 10, 64)
				if err != nil {
					t.Fatalf("child says %q", line)
				}
				want[fmt.Sprintf("k%d", n%30)] = n
				// On progress, not on time: a slow machine must prove as much. A moment
				// later, so that it lands anywhere in what follows.
				if acknowledged++; acknowledged == 15+7*round {
					kill = time.After(time.Duration(round*3) * time.Millisecond)
				}
			case <-kill:
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed
		if acknowledged < 15+7*round {
			t.Fatalf("round %d: the child ended by itself after %d rounds of appends", round, acknowledged)
		}

		e, err := StartEmbedded(dir)
		must(t, err)
		c, err := NewClient(e.Dial(), "test")
		must(t, err)
		for p := range int32(3) {
			got, _ := lastValues(t, c, "t", p)
			for k, n := range want {
				number, err := strconv.ParseInt(strings.TrimRight(got[k], "x"), 10, 64)
				if err != nil || number < n || number > n+30 || (number-n)%30 != 0 {
					t.Errorf("round %d, partition %d: %s is %.20q, acknowledged was %d", round, p, k, got[k], n)
				}
			}
		}
		c.Close()
		must(t, e.Close())
	}
}
