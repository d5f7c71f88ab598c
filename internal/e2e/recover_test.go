package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdRecover runs afterimage recover on the rig's manifests and data directory.
// Arguments of the form /POINTER=JSON are compared with its report, others are
// flags. Negated: its exit status must not be 0, and the report is compared if
// there is one.
func cmdRecover(ts *testscript.TestScript, neg bool, args []string) {
	r := rigOf(ts)
	command := []string{"recover", "-f", r.manifestDir(), "--data-dir", r.dataDir(), "-o", "json"}
	var wants []string
	for _, a := range args {
		if a == "MOMENT" {
			a = ts.Getenv("MOMENT")
		}
		if strings.HasPrefix(a, "/") {
			wants = append(wants, a)
		} else {
			command = append(command, a)
		}
	}
	var out, errOut bytes.Buffer
	c := exec.Command(r.binary, command...)
	c.Stdout, c.Stderr = &out, &errOut
	err := c.Run()
	ts.Logf("recover: %v\n%s%s", err, errOut.String(), out.String())
	if neg == (err == nil) {
		ts.Fatalf("recover %v: error %v, negated %v", args, err, neg)
	}
	if len(wants) == 0 {
		return
	}
	var report any
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		ts.Fatalf("the report: %v", err)
	}
	ts.Check(matches(report, wants))
}

// cmdMoment notes a moment at which everything that was done before is in the log,
// and nothing that is done after, for recover --at MOMENT.
func cmdMoment(ts *testscript.TestScript, _ bool, _ []string) {
	const apart = 200 * time.Millisecond // clocks are read before and after a request
	time.Sleep(apart)
	ts.Setenv("MOMENT", time.Now().UTC().Format(time.RFC3339Nano))
	time.Sleep(apart)
}

// cmdResume runs afterimage resume.
func cmdResume(ts *testscript.TestScript, _ bool, _ []string) {
	r := rigOf(ts)
	out, err := exec.Command(r.binary, "resume", "-f", r.manifestDir()).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	ts.Check(err)
}
