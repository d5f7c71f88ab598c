package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"afterimage": func() { os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the program as users do; no script needs a server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until, "logged": logged, "status": exitStatus, "logged-nodes": loggedNodes},
	})
}

// status N ARGUMENTS… runs afterimage, which must end with that exit status.
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N ARGUMENTS…")
	}
	err := ts.Exec("afterimage", args[1:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s\n%s%s", got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// until TEXT COMMAND… runs a command until it succeeds and its output holds a text.
func until(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until TEXT COMMAND…")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && strings.Contains(out, args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q never appeared: %v\n%s%s", args[0], err, out, ts.ReadFile("stderr"))
		}
	}
}

func TestBrokersAreChecked(t *testing.T) {
	for address, ok := range map[string]bool{
		"kafka:9092": true, "10.0.0.1:1": true, "[::1]:9092": true,
		"kafka": false, ":9092": false, "kafka:": false, "kafka:0": false, "kafka:70000": false, "kafka:http": false, "": false,
	} {
		if err := checkBrokers([]string{address}); (err == nil) != ok {
			t.Errorf("%q: %v; want ok %v", address, err, ok)
		}
	}
}
