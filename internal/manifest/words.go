package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// patternWords says in words what the patterns of the CRDs ask for. A test holds
// it complete.
var patternWords = map[string]string{
	`^(/|(/([^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.\.[^/\x00-\x1f\x7f]+))+)$`: "expected an absolute path such as /app/config, without a / at its end, without empty, . or .. parts, and without control characters",
	`^(\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]|[0-9A-Za-z._-]+):[0-9]{1,5}$`:                                           "expected host:port such as zk-0.example:2181 or [2001:db8::1]:2181",
	`^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$`:          "expected an RFC 3339 time such as 2026-11-25T04:30:00Z",
	`^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$`:                                                                     "expected a duration that is not negative, such as 1h, 3h25m12s or 0s",
	`^(/([^~/]|~[01])*)+$`:                                                 "expected a JSON pointer that begins with /, such as /spec/replicas, in which ~ is written ~0 and a / within a name ~1",
	`^[a-z]([-a-z0-9]*[a-z0-9])?$`:                                         "expected an API version such as v1 or v1beta1",
	`^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$`:                                "expected the name of a resource such as deployments, without group, version or subresource",
	`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`: "expected an API group such as apps or cert-manager.io, without version, or the empty string for the core group",
	`^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`: "expected a quantity such as 500m or 1Gi",
}

// pathAtEnd finds the field in the few messages of the schema library that have
// it in the text alone: "Checked value must be of type integer with format int32
// in spec.qps".
var pathAtEnd = regexp.MustCompile(`^(.*) in ((?:spec|status)\S*)$`)

// wrongType is how the schema library words a value of another type; what it
// calls the value is its type again.
var wrongType = regexp.MustCompile(`^Invalid value: "(?:\w+)": \S* in body must be of type (\w+): "(\w+)"$`)

// explain turns an error of the schema into words: the field, what is wrong with
// it, then what was expected.
func (s *kindSchema) explain(e *field.Error) (path, detail string) {
	path, detail = e.Field, s.detail(e)
	if path == noPath {
		path = ""
		if m := pathAtEnd.FindStringSubmatch(detail); m != nil {
			path, detail = m[2], m[1]
		}
	}
	return path, detail
}

// noPath is how field.Error writes the path of the object itself.
var noPath = (*field.Path)(nil).String()

func (s *kindSchema) detail(e *field.Error) string {
	detail := e.ErrorBody()
	if i := strings.Index(detail, "should match '"); i >= 0 {
		pattern := strings.TrimSuffix(detail[i+len("should match '"):], "'")
		if words, ok := patternWords[pattern]; ok {
			return fmt.Sprintf("Invalid value: %q: %s", e.BadValue, words)
		}
	}
	if m := wrongType.FindStringSubmatch(detail); m != nil {
		want := article(m[1])
		if m[1] == "string" && m[2] != "array" && m[2] != "object" {
			want += " (in quotes)"
		}
		got := article(m[2])
		if m[2] == "boolean" {
			got = "a boolean"
		}
		return fmt.Sprintf("Invalid value: must be of type %s: expected %s, got %s", m[1], want, got)
	}
	if e.Type == field.ErrorTypeRequired && e.Detail == "" {
		return "Required value" + s.expectation(e.Field)
	}
	return detail
}

// expectation describes a field: its type and the first sentence about it.
func (s *kindSchema) expectation(path string) string {
	p := s.property(path)
	if p == nil {
		return ""
	}
	out := ": expected " + article(p.Type)
	if about, _, _ := strings.Cut(strings.ReplaceAll(p.Description, "\n", " "), ". "); about != "" {
		out += " (" + strings.TrimSuffix(about, ".") + ")"
	}
	return out
}

func article(kind string) string {
	switch kind {
	case "array":
		return "a list"
	case "object":
		return "a mapping"
	case "integer":
		return "an integer"
	case "boolean":
		return "true or false"
	case "number":
		return "a number"
	case "null":
		return "nothing"
	case "":
		return "a value"
	}
	return "a " + kind
}

// unknownField says which fields are accepted where an unknown one was found,
// and which of them it resembles.
func (s *kindSchema) unknownField(path string) string {
	parent, name := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	known := []string{"apiVersion", "kind", "metadata"}
	if parent != "" {
		known = nil
	}
	if p := s.property(parent); p != nil {
		known = append(known, slices.Collect(maps.Keys(p.Properties))...)
	}
	return unknownAmong(name, known)
}

func unknownAmong(name string, known []string) string {
	slices.Sort(known)
	known = slices.Compact(known)
	if len(known) == 0 {
		return "unknown field"
	}
	best, distance := "", 3 // further apart it is no misspelling
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("unknown field: expected one of %s; did you mean %s?", strings.Join(known, ", "), best)
	}
	return "unknown field: expected one of " + strings.Join(known, ", ")
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
