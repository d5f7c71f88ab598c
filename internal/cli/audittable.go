package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/afterimage-dr/afterimage/consumers/audit"
	"github.com/afterimage-dr/afterimage/topology"
)

// auditTable writes changes as a table whose columns are as wide as what was
// written so far needs.
type auditTable struct {
	out       io.Writer
	diff      bool
	flushEach bool

	rows   []auditRow
	widths [auditColumns]int
	begun  bool
	shown  int
}

const (
	auditColumns = 6
	// auditBatch rows are looked at before the first is written.
	auditBatch = 500
	// auditTime shows milliseconds, always of the same width.
	auditTime = "2006-01-02T15:04:05.000Z"
	// shownFields of a change stand in its row; shownValue is how much of a value.
	shownFields = 3
	shownValue  = 200
	// widestColumn keeps one long name from pushing all other columns away.
	widestColumn = 60
)

type auditRow struct {
	cells [auditColumns]string
	below []string
}

func (t *auditTable) add(c *audit.Change) error {
	t.shown++
	t.rows = append(t.rows, t.row(c))
	if t.flushEach || len(t.rows) >= auditBatch {
		return t.flush()
	}
	return nil
}

func (t *auditTable) end() error {
	if t.shown == 0 && !t.flushEach {
		_, err := fmt.Fprintln(t.out, "no changes")
		return err
	}
	return t.flush()
}

func (t *auditTable) flush() error {
	var b strings.Builder
	if !t.begun {
		t.begun = true
		t.rows = append([]auditRow{{cells: [auditColumns]string{"TIME", "OP", "OBJECT", "BY", "CHANGED", "APPLIED"}}}, t.rows...)
	}
	for _, r := range t.rows {
		for i, c := range r.cells {
			t.widths[i] = max(t.widths[i], min(utf8.RuneCountInString(c), widestColumn))
		}
	}
	for _, r := range t.rows {
		line := ""
		for i, c := range r.cells {
			line += c + strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(c))+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, l := range r.below {
			b.WriteString("    " + l + "\n")
		}
	}
	t.rows = t.rows[:0]
	_, err := io.WriteString(t.out, b.String())
	return err
}

func (t *auditTable) row(c *audit.Change) auditRow {
	at := c.Moment().UTC().Format(auditTime)
	switch c.Kind {
	case audit.OfGap:
		return auditRow{cells: [auditColumns]string{at, "gap", c.From.UTC().Format(auditTime) + " to " + c.To.UTC().Format(auditTime) + ": " + clean(c.Reason)}}
	case audit.OfEpoch:
		return auditRow{cells: [auditColumns]string{at, "epoch", "the source went back to an earlier state, or became another one: epoch " + strconv.FormatInt(c.Epoch, 10)}}
	}
	r := auditRow{cells: [auditColumns]string{at, string(c.Op), objectName(c), managers(c.By), changed(c), applied(c)}}
	if t.diff {
		r.below = details(c)
	}
	return r
}

// objectName is RESOURCE[.GROUP]/[NAMESPACE/]NAME, or a path, as --object takes it.
func objectName(c *audit.Change) string {
	if c.Path != "" {
		return clean(c.Path)
	}
	s := c.Resource
	if c.Group != "" {
		s += "." + c.Group
	}
	if c.Namespace != "" {
		s += "/" + c.Namespace
	}
	return clean(s + "/" + c.Name)
}

func managers(by []topology.Manager) string {
	var names []string
	for _, m := range by {
		names = append(names, clean(m.Name))
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}

// changed are the first paths, and how many more there are.
func changed(c *audit.Change) string {
	switch {
	case c.Unknown:
		return "(the version before is gone)"
	case c.Again:
		return "(nothing: logged again)"
	case c.Op == topology.Delete && c.Inferred:
		return "(found missing)"
	case len(c.Fields) == 0:
		return "-"
	}
	var paths []string
	for _, f := range c.Fields[:min(shownFields, len(c.Fields))] {
		paths = append(paths, clean(f.Path))
	}
	s := strings.Join(paths, " ")
	if more := len(c.Fields) - shownFields; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// applied is the result and how long after the change it was there.
func applied(c *audit.Change) string {
	s := clean(c.Applied.Result)
	if !c.Applied.At.IsZero() {
		if d := c.Applied.At.Sub(c.Moment()); d >= 0 {
			s += " after " + d.Round(time.Millisecond).String()
		}
	}
	if c.Applied.Reason != "" {
		s += ": " + clean(c.Applied.Reason)
	}
	return s
}

// details are the lines below a row.
func details(c *audit.Change) (lines []string) {
	if c.ChangedAt != nil {
		lines = append(lines, "changed at "+c.ChangedAt.UTC().Format(time.RFC3339)+", logged at "+c.AppendedAt.UTC().Format(auditTime))
	}
	if c.Reason != "" {
		lines = append(lines, clean(c.Reason))
	}
	for _, f := range c.Fields {
		switch {
		case f.Old == nil:
			lines = append(lines, clean(f.Path)+": added "+short(f.New))
		case f.New == nil:
			lines = append(lines, clean(f.Path)+": removed "+short(f.Old))
		default:
			lines = append(lines, clean(f.Path)+": "+short(f.Old)+" → "+short(f.New))
		}
	}
	if c.Applied.Message != "" {
		lines = append(lines, "not applied: "+clean(c.Applied.Message))
	}
	return lines
}

// short is as much of a value as fits.
func short(v []byte) string {
	s := []rune(clean(string(v)))
	if len(s) > shownValue {
		return string(s[:shownValue]) + "…"
	}
	return string(s)
}

// clean keeps what comes from the log from steering the terminal.
func clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
