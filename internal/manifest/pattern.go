package manifest

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/afterimage-dr/afterimage/topology"
)

// globOnly are the characters a glob may hold: those a name may hold, and the
// wildcards. Anything else in a pattern means a regular expression, and if it is
// not a valid one, it is a mistake and not a glob.
var globOnly = regexp.MustCompile(`^[-A-Za-z0-9._:*?\[\]^]+$`)

// validatePattern checks a pattern of a name selector: a valid RE2 expression
// or, failing that, a glob such as *.test. It is stricter than
// [topology.CompileName], for which "web-(" is a glob too, one without wildcards
// that no name can match: nobody means that.
func validatePattern(pattern string) error {
	const expected = "expected an RE2 regular expression such as config.* or a glob such as *.test"
	_, err := regexp.Compile(pattern)
	if err != nil && (!globOnly.MatchString(pattern) || !strings.ContainsAny(pattern, "*?[")) {
		return fmt.Errorf("%s: %w", expected, err)
	}
	if _, err := topology.CompileName(pattern); err != nil {
		return fmt.Errorf("%s: %w", expected, err)
	}
	return nil
}
