package manifest

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// globOnly are the characters a glob may hold: those a name may hold, and the
// wildcards. Anything else in a pattern means a regular expression, and if it is
// not a valid one, it is a mistake and not a glob.
var globOnly = regexp.MustCompile(`^[-A-Za-z0-9._:*?\[\]^]+$`)

// validatePattern checks a pattern of a name selector: a valid RE2 expression
// or, failing that, a valid glob such as *.test.
func validatePattern(pattern string) error {
	_, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err == nil {
		// A parenthesis that closes the group above would compile too.
		_, err = regexp.Compile(pattern)
	}
	if err == nil {
		return nil
	}
	if globOnly.MatchString(pattern) && strings.ContainsAny(pattern, "*?[") {
		if _, globErr := path.Match(pattern, ""); globErr == nil {
			return nil
		}
	}
	return fmt.Errorf("expected an RE2 regular expression such as config.* or a glob such as *.test: %w", err)
}
