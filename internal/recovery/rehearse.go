package recovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
	"github.com/afterimage-dr/afterimage/internal/kube"
)

// Rehearsal is the result of one.
type Rehearsal struct {
	Report *restorer.Report
	// Forecast of the RTO of a recovery now: what the rehearsal took, corrected by how
	// recoveries of before compare with the rehearsals before them.
	Forecast time.Duration
	// Factor of that correction, and of how many recoveries it is; 1 of none.
	Factor  float64
	Learned int
}

// Stage is where a rehearsal writes for real. The zero Stage: nowhere, it is a dry run.
type Stage struct {
	// Cluster other than the destination; nil: the destination.
	Cluster *rest.Config
	// NamespacePrefix puts everything into namespaces of other names; required in the
	// destination itself.
	NamespacePrefix string
	// Keep leaves what was written under a prefix; else it is deleted at the end.
	Keep bool
}

// Rehearse does what a recovery would do, while replication runs, and without
// stopping it: the destination checks every write and keeps none. With a stage it
// is done for real there instead.
func Rehearse(ctx context.Context, q Request, stage Stage) (*Rehearsal, error) {
	q.mode, q.DryRun = restorer.Rehearse, stage.Cluster == nil && stage.NamespacePrefix == ""
	q.prefix, q.clean = stage.NamespacePrefix, stage.NamespacePrefix != "" && !stage.Keep
	if !q.DryRun && !q.At.IsZero() {
		return nil, errors.New("a rehearsal that writes is of the newest state: an earlier moment can be rehearsed as a dry run")
	}
	if stage.Cluster != nil {
		if err := another(ctx, q.Destination, stage.Cluster); err != nil {
			return nil, err
		}
		q.Destination = stage.Cluster
	}
	report, err := Run(ctx, q)
	if report == nil || err != nil {
		return nil, err
	}
	past, err := q.past()
	if err != nil {
		return nil, err
	}
	r := &Rehearsal{Report: report}
	r.Factor, r.Learned = learned(past)
	r.Forecast = time.Duration(float64(report.RTO()) * r.Factor)
	return r, q.remember(report)
}

// another refuses a cluster that is the destination itself: no fence is raised for
// a rehearsal, so both would be written at once.
func another(ctx context.Context, destination, into *rest.Config) error {
	var uids [2]string
	for i, c := range [...]*rest.Config{destination, into} {
		client, err := kube.New(c, kube.WithTimeout(requestTimeout))
		if err != nil {
			return err
		}
		if uids[i], err = client.ClusterUID(ctx); err != nil {
			return fmt.Errorf("looking which cluster %s is: %w", client.Host(), err)
		}
	}
	if uids[0] == uids[1] {
		return errors.New("that is the destination itself: a rehearsal writes to another cluster, or nothing at all")
	}
	return nil
}

// past run, of a rehearsal or a recovery.
type past struct {
	At      time.Time     `json:"at"`
	Mode    restorer.Mode `json:"mode"`
	Objects int           `json:"objects"`
	Seconds float64       `json:"seconds"`
	Failed  int           `json:"failed"`
}

// learned is how many times as long per object recoveries took as the rehearsals
// before them: the median, 1 where there was none.
func learned(all []past) (factor float64, recoveries int) {
	var factors []float64
	var last past
	for _, p := range all {
		switch {
		case p.Objects == 0 || p.Seconds <= 0:
		case p.Mode == restorer.Rehearse:
			last = p
		case last.Objects > 0:
			factors = append(factors, p.Seconds/float64(p.Objects)/(last.Seconds/float64(last.Objects)))
		}
	}
	if len(factors) == 0 {
		return 1, 0
	}
	slices.Sort(factors)
	return factors[len(factors)/2], len(factors)
}

// file of the runs of a LiveSynchronization; a namespace holds no dot.
func (q *Request) file() string {
	id := q.Target.LiveSynchronization
	return filepath.Join(q.DataDir, "rehearsals", id.Namespace+"."+id.Name+".jsonl")
}

// past reads the runs of before. A line that is no such run, such as the end of one
// that was cut off, is passed over.
func (q *Request) past() ([]past, error) {
	f, err := os.Open(q.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rehearsals of before: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	var all []past
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var p past
		if json.Unmarshal(lines.Bytes(), &p) == nil && p.Mode != "" {
			all = append(all, p)
		}
	}
	return all, lines.Err()
}

// remember notes a run for forecasts to come. A data directory that is not there is
// not made for it.
func (q *Request) remember(report *restorer.Report) error {
	if _, err := os.Stat(q.DataDir); err != nil || q.DataDir == "" {
		return nil
	}
	line, err := json.Marshal(past{
		At: report.Started.UTC(), Mode: report.Mode, Objects: report.Summary.Total, Seconds: report.RTO().Seconds(), Failed: report.Summary.Failed,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(q.file()), 0o700); err != nil {
		return fmt.Errorf("noting the rehearsal: %w", err)
	}
	f, err := os.OpenFile(q.file(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("noting the rehearsal: %w", err)
	}
	_, err = f.Write(append([]byte{'\n'}, append(line, '\n')...)) // a line cut off before ends here
	return errors.Join(err, f.Close())
}
