package nodecopy

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/ensemble"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// during runs a copy and, once it has begun to do what is looked for, the trouble.
func (e *env) during(begun func(Progress) bool, trouble func(), change ...func(*Options)) (*Result, error) {
	e.Helper()
	start := make(chan struct{})
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-start:
			trouble()
		case <-ended:
			e.Error("the copy ended before the trouble began")
		}
	}()
	once := false
	r, err := e.copy(append(change, func(o *Options) {
		o.Progress = func(p Progress) {
			if !once && begun(p) {
				once = true
				close(start)
			}
		}
	})...)
	close(ended)
	<-done
	return r, err
}

func writes(p Progress) bool { return p.Created > 50 }

func reads(p Progress) bool { return p.Read > 50 }

// slowly has a side reached over a proxy that gives time for trouble.
func slowly(t *testing.T, z *testenv.ZooKeeperServer, bandwidth int) *side {
	t.Helper()
	s := connect(t, []string{z.ZooKeeper.Addr()}, "")
	s.o.Servers = []string{z.Addr()}
	z.Proxy.Bandwidth(bandwidth)
	return s
}

// Connections of both sides are cut again and again while a copy reads and writes:
// whatever was done unknown to us, both trees are equal node by node in the end.
func TestConnectionsCut(t *testing.T) {
	source := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	destination := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	e := newEnvOf(t, slowly(t, source, 0), slowly(t, destination, 0))
	r := rand.New(rand.NewPCG(7, 8))
	paths := e.source.grow("/test", 4000, 400, r)
	destination.Proxy.Bandwidth(700_000)
	source.Proxy.Bandwidth(2_000_000)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for cuts := rand.New(rand.NewPCG(9, 10)); ; {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(100+cuts.IntN(1500)) * time.Millisecond):
			}
			if cuts.IntN(3) == 0 {
				source.Proxy.Cut()
			} else {
				destination.Proxy.Cut()
			}
		}
	}()
	first := e.copied()
	e.equal()
	if first.Created != int64(len(paths)) {
		t.Errorf("created %d of %d", first.Created, len(paths))
	}
	for _, p := range paths[1:] {
		if r.IntN(3) == 0 {
			e.source.put(p, "changed")
		}
	}
	for range 30 {
		e.source.put(fmt.Sprintf("%s/more-%d", paths[r.IntN(len(paths))], r.IntN(1000)), "")
	}
	second := e.copied()
	close(stop)
	<-stopped
	e.equal()
	t.Logf("%+v\n%+v", first, second)
}

// Sessions of both sides expire in mid-copy.
func TestSessionsExpire(t *testing.T) {
	quick := testenv.WithZooKeeperSetting("minSessionTimeout", "1000")
	source := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy(), quick, testenv.WithZooKeeperSetting("tickTime", "200"))
	destination := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy(), quick, testenv.WithZooKeeperSetting("tickTime", "200"))
	e := newEnvOf(t, slowly(t, source, 0), slowly(t, destination, 0))
	e.o.Source.SessionTimeout, e.o.Destination.SessionTimeout = 1500*time.Millisecond, 1500*time.Millisecond
	e.source.grow("/test", 3000, 400, rand.New(rand.NewPCG(11, 12)))
	source.Proxy.Bandwidth(500_000)
	destination.Proxy.Bandwidth(400_000)
	expire := func(z *testenv.ZooKeeperServer) {
		must(t, z.Proxy.Refuse(true))
		z.Proxy.Cut()
		time.Sleep(2500 * time.Millisecond)
		must(t, z.Proxy.Refuse(false))
	}
	var said bytes.Buffer
	e.o.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, err := e.during(reads, func() { expire(source); expire(destination) })
	must(t, err)
	if n := strings.Count(said.String(), "session has been expired"); n < 2 {
		t.Errorf("%d sessions expired, want one of each side", n)
	}
	e.equal()
	if r := e.copied(); r.Created+r.Updated+r.Deleted != 0 {
		t.Errorf("the second: %+v", r)
	}
}

// The leader of each ensemble is killed in mid-copy, and comes back.
func TestLeadersKilled(t *testing.T) {
	ensembles := map[string]*testenv.ZooKeeperEnsemble{}
	one := testenv.StartZooKeeper(t)
	three := testenv.StartZooKeeperEnsemble(t, 3, testenv.WithZooKeeperProxy())
	ensembles["destination"], ensembles["source"] = three, three
	for name := range ensembles {
		t.Run(name, func(t *testing.T) {
			root := "/" + name
			single, many := connect(t, []string{one.Addr()}, root), connect(t, addresses(three), root)
			many.o.Servers = three.Addrs()
			for _, z := range three.Servers {
				z.Proxy.Bandwidth(700_000)
			}
			e := newEnvOf(t, single, many)
			begun := writes
			if name == "source" {
				e, begun = newEnvOf(t, many, single), reads
			}
			e.o.Patience = time.Minute
			e.source.grow("/test", 5000, 400, rand.New(rand.NewPCG(13, 14)))
			r, err := e.during(begun, func() { three.KillLeader() })
			must(t, err)
			if !r.Complete() {
				t.Errorf("%+v", r)
			}
			e.equal()
			three.Start()
		})
	}
}

func addresses(e *testenv.ZooKeeperEnsemble) (out []string) {
	for _, z := range e.Servers {
		out = append(out, z.ZooKeeper.Addr())
	}
	return out
}

// A side that nobody answers at, or where what answers is stopped, ends the copy after
// Patience with an error that names it and no secret.
func TestUnreachable(t *testing.T) {
	z := testenv.StartZooKeeper(t)
	for _, name := range []string{"source", "destination"} {
		for _, how := range []string{"refused", "frozen", "frozen and signed in"} {
			t.Run(name+" "+how, func(t *testing.T) {
				e := newEnv(t)
				e.source.put("/test", "")
				o := &e.o.Source
				if name == "destination" {
					o = &e.o.Destination
				}
				*o = ensemble.Options{Servers: []string{z.Addr()}, SessionTimeout: 2 * time.Second}
				if how == "refused" {
					o.Servers = []string{"127.0.0.1:1"}
				} else {
					z.Freeze()
					defer z.Thaw()
				}
				if how == "frozen and signed in" {
					o.Username, o.Password = "jane", "s3cr3t-word"
				}
				e.o.Patience = 3 * time.Second
				var said bytes.Buffer
				e.o.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
				began := time.Now()
				_, err := e.copy()
				var unreachable *ensemble.UnreachableError
				if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), o.Servers[0]) {
					t.Errorf("copy: %v", err)
				}
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
				if strings.Contains(fmt.Sprint(err)+said.String(), "s3cr3t-word") {
					t.Error("the password was told")
				}
				t.Log(err)
			})
		}
	}
}

// A destination that freezes in mid-copy and goes on is waited for.
func TestFreezeInMidCopy(t *testing.T) {
	z := testenv.StartZooKeeper(t, testenv.WithZooKeeperProxy())
	e := newEnv(t)
	destination := slowly(t, z, 500_000)
	destination.o.SessionTimeout = 4 * time.Second
	e = newEnvOf(t, e.source, destination)
	e.source.grow("/test", 4000, 300, rand.New(rand.NewPCG(15, 16)))
	r, err := e.during(writes, func() {
		z.Freeze()
		time.Sleep(6 * time.Second)
		z.Thaw()
	})
	must(t, err)
	if !r.Complete() {
		t.Errorf("%+v", r)
	}
	e.equal()
}

// A copy that fails leaves no session behind.
func TestNoSessionLeft(t *testing.T) {
	z := testenv.StartZooKeeper(t)
	s := connect(t, []string{z.Addr()}, "")
	e := newEnvOf(t, s, connect(t, []string{z.Addr()}, "/there"))
	e.source.put("/test", "")
	before := z.Status().Connections
	for _, broken := range []func(*Options){
		func(o *Options) { o.Destination.Servers = []string{"127.0.0.1:1"}; o.Patience = time.Second },
		func(o *Options) { o.Rules.Root = "/nowhere" },
		func(o *Options) { o.CreateRoot = false },
	} {
		if _, err := e.copy(broken); err == nil {
			t.Error("the copy did not fail")
		}
	}
	e.copied()
	for end := time.Now().Add(5 * time.Second); z.Status().Connections != before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections, %d before", z.Status().Connections, before)
		}
	}
}
