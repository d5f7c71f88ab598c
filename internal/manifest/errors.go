package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing wrong with a manifest.
type Error struct {
	// File as it was given or found; "<stdin>" for standard input.
	File string
	// Line in the file, from 1; 0 when unknown.
	Line int
	// Document in the file, from 1; 0 when it is about the file as a whole.
	Document int
	// Object is "<kind> <namespace>/<name>", as far as known.
	Object string
	// Field is the path of the field, such as spec.config.sourceName; may be empty.
	Field string
	// Detail says what is wrong and what was expected.
	Detail string
}

// Error gives all of it in one line, so that an editor can jump to it:
// file:line: document n: Kind namespace/name: field: detail.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Document > 0 {
		fmt.Fprintf(&b, ": document %d", e.Document)
	}
	for _, part := range [...]string{e.Object, e.Field, e.Detail} {
		if part != "" {
			b.WriteString(": ")
			b.WriteString(strings.ReplaceAll(part, "\n", " "))
		}
	}
	return b.String()
}

// Errors is everything wrong with a set of manifests, in the order of the files.
type Errors []*Error

// Error gives one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single errors.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i := range e {
		out[i] = e[i]
	}
	return out
}

// sorted returns the errors in the order of files and lines, each once; nil
// where there is none, so that the result can be returned as an error.
func (e Errors) sorted(order map[string]int) error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Document, b.Document), cmp.Compare(a.Line, b.Line))
	})
	return slices.CompactFunc(e, func(a, b *Error) bool { return *a == *b })
}
