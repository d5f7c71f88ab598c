package topology

import (
	"fmt"
	"path"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/afterimage-dr/afterimage/operator/api/v1alpha1"
)

// filter is a compiled [v1alpha1.Filters]; the zero filter takes everything.
type filter struct {
	include, exclude []NamePattern
	// object and namespace are nil where there is no such selector.
	object, namespace labels.Selector
}

// NamePattern matches whole names.
type NamePattern struct {
	expression *regexp.Regexp
	glob       string
}

// CompileName compiles a pattern of a nameSelector: an RE2 expression that must
// match the whole name, or, where it is none, a glob such as *.test.
func CompileName(pattern string) (NamePattern, error) {
	// Compiled alone first: "a)(b" is no expression, though it is one in a group.
	_, err := regexp.Compile(pattern)
	if err == nil {
		re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if err == nil {
			return NamePattern{expression: re}, nil
		}
		return NamePattern{}, fmt.Errorf("must be a regular expression (RE2) or a glob: %w", err)
	}
	if _, globErr := path.Match(pattern, ""); globErr != nil {
		return NamePattern{}, fmt.Errorf("must be a regular expression (RE2) or a glob: %w", err)
	}
	return NamePattern{glob: pattern}, nil
}

// Match tells whether the pattern matches the whole name.
func (p NamePattern) Match(name string) bool {
	if p.expression != nil {
		return p.expression.MatchString(name)
	}
	ok, _ := path.Match(p.glob, name) // checked when compiled
	return ok
}

func compileFilter(f *v1alpha1.Filters, at *field.Path) (out filter, errs field.ErrorList) {
	names := func(patterns []string, at *field.Path) (out []NamePattern) {
		for i, s := range patterns {
			p, err := CompileName(s)
			if err != nil {
				errs = append(errs, field.Invalid(at.Index(i), s, err.Error()))
			}
			out = append(out, p)
		}
		return out
	}
	selector := func(s *metav1.LabelSelector, at *field.Path) labels.Selector {
		if s == nil {
			return nil
		}
		sel, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			errs = append(errs, field.Invalid(at, metav1.FormatLabelSelector(s), err.Error()))
		}
		return sel
	}
	if n := f.NameSelector; n != nil {
		at := at.Child("nameSelector")
		// includeRegex is the same list under another name: any of either.
		out.include = append(names(n.Regex, at.Child("regex")), names(n.IncludeRegex, at.Child("includeRegex"))...)
		out.exclude = names(n.ExcludeRegex, at.Child("excludeRegex"))
	}
	out.object = selector(f.Selector, at.Child("selector"))
	out.namespace = selector(f.NamespaceSelector, at.Child("namespaceSelector"))
	return out, errs
}

// matches tells whether all parts of the filter take the object. The labels of
// its namespace come from the record's stamp, so that the answer is the same on
// every replay.
func (f *filter) matches(key Key, obj *object, namespaceLabels map[string]string) bool {
	if anyMatches(f.exclude, key.Name) || len(f.include) > 0 && !anyMatches(f.include, key.Name) {
		return false
	}
	if f.object != nil && !f.object.Empty() && !f.object.Matches(labels.Set(obj.strings("labels"))) {
		return false
	}
	if f.namespace == nil || f.namespace.Empty() {
		return true
	}
	switch {
	case key.Namespace != "":
		return f.namespace.Matches(labels.Set(namespaceLabels))
	case key.Group == "" && key.Resource == "namespaces":
		return f.namespace.Matches(labels.Set(obj.strings("labels")))
	default: // another cluster-scoped object has no namespace to ask for
		return true
	}
}

func anyMatches(patterns []NamePattern, name string) bool {
	for i := range patterns {
		if patterns[i].Match(name) {
			return true
		}
	}
	return false
}
