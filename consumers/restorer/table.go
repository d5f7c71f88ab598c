package restorer

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// PhaseDone is the last phase that progress tells.
const PhaseDone = "done"

// JSON writes the report.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	rpo, known := r.RPO()
	out := struct {
		*Report
		Complete bool   `json:"complete"`
		RTO      string `json:"rto"`
		RPO      string `json:"rpo,omitempty"`
	}{Report: r, Complete: r.Complete(), RTO: r.RTO().Round(time.Millisecond).String()}
	if known {
		out.RPO = rpo.Round(time.Millisecond).String()
	}
	return e.Encode(out)
}

// Table writes what a person wants to know: every object that something was done
// with, or that failed, and the sum.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(t, "OBJECT\tRESULT\tWHY")
	for i := range r.Results {
		res := &r.Results[i]
		if res.Action == Unchanged && res.Note == "" {
			continue
		}
		why := res.Note
		if res.Message != "" {
			why = res.Message
			if res.Reason != "" {
				why = res.Reason + ": " + why
			}
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", res.Key, res.Action, why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	s := r.Summary
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("\n%d objects: %d restored, %d patched, %d unchanged, %d deleted, %d kept, %d failed\n", s.Total, s.Restored, s.Patched, s.Unchanged, s.Deleted, s.Kept, s.Failed)
	if r.Mode == Replay {
		return r.replayed(p)
	}
	p("read from %s; %d had not arrived at the destination before\n", r.Originals, r.AtRisk)
	rpo := "RPO unknown"
	if d, ok := r.RPO(); ok {
		rpo = fmt.Sprintf("RPO at most %s (the source is known up to %s)", d.Round(100*time.Millisecond), r.DataAsOf.UTC().Format(time.RFC3339))
	}
	p("RTO %s, %s\n", r.RTO().Round(100*time.Millisecond), rpo)
	for _, silent := range r.Silent {
		p("writer %s did not answer the fence and was waited for until it could not write any more\n", silent)
	}
	for _, warning := range r.Warnings {
		p("warning: %s\n", warning)
	}
	switch {
	case r.Blocked != "":
		p("NOT complete: %s\n", r.Blocked)
	case !r.Complete():
		p("NOT complete: run it again when the reasons are mended; nothing is done twice\n")
	case r.DryRun:
		p("dry run: nothing was written\n")
	default:
		p("complete: every object was found at the destination\n")
	}
	if r.Term != 0 {
		p("replication stays stopped (term %d) until \"afterimage resume\"\n", r.Term)
	}
	return nil
}

// replayed is the end of a replay's table, which took nothing over.
func (r *Report) replayed(p func(string, ...any)) error {
	switch {
	case !r.Complete():
		p("NOT complete: run it again when the reasons are mended\n")
	case r.DryRun:
		p("dry run: nothing was written\n")
	default:
		p("complete: every object was found at the destination\n")
	}
	return nil
}
