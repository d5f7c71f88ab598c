//go:build failpoints

// Package failpoint marks the steps at which tests kill the process. It is
// compiled in only with the build tag failpoints.
package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Environment names the variable that arms failpoints: a comma-separated list
// of <step>=kill@<n> (SIGKILL itself at the n-th hit), <step>=stop@<n> (SIGSTOP)
// or <step>=sleep@<duration>.
const Environment = "AFTERIMAGE_FAILPOINTS"

type point struct {
	mu    sync.Mutex
	at    int
	with  syscall.Signal
	hits  int
	sleep time.Duration
}

var points = parse(os.Getenv(Environment))

func parse(s string) map[string]*point {
	m := map[string]*point{}
	for _, p := range strings.Split(s, ",") {
		name, action, ok := strings.Cut(strings.TrimSpace(p), "=")
		if !ok {
			continue
		}
		what, arg, _ := strings.Cut(action, "@")
		switch what {
		case "kill", "stop":
			n, err := strconv.Atoi(arg)
			if err != nil {
				panic("failpoint " + p + ": " + err.Error())
			}
			m[name] = &point{at: n, with: map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP}[what]}
		case "sleep":
			d, err := time.ParseDuration(arg)
			if err != nil {
				panic("failpoint " + p + ": " + err.Error())
			}
			m[name] = &point{sleep: d}
		default:
			panic("failpoint " + p + ": want kill@<n>, stop@<n> or sleep@<duration>")
		}
	}
	return m
}

// Hit does what the environment asks for at this step.
func Hit(step string) {
	p := points[step]
	if p == nil {
		return
	}
	p.mu.Lock()
	p.hits++
	now := p.at > 0 && p.hits == p.at
	p.mu.Unlock()
	if now {
		_ = syscall.Kill(os.Getpid(), p.with)
		if p.with == syscall.SIGKILL {
			select {} // the signal may take a moment; nothing may happen meanwhile
		}
		// So may SIGSTOP. A sleep that began before the stop ends with it, so that
		// what comes next comes at once when the process is continued.
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(p.sleep)
}
