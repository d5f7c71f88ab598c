package zookeeper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What users may meet is explained where they look for it.
func TestEveryReasonIsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "zookeeper.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{
		ReasonRead, ReasonDestinationRead, ReasonParentMissing, ReasonDenied, ReasonTooLarge, ReasonMode, ReasonACL, ReasonNotEmpty,
		ReasonConflict, ReasonRefused, ReasonDifferent,
	} {
		if !strings.Contains(string(page), "`"+reason+"`") {
			t.Errorf("docs/zookeeper.md lacks %s", reason)
		}
	}
}
