package breaker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// PathsError says that more paths of a tree would go than may without a person's
// word: a source that was lost or restored looks the same.
type PathsError struct {
	// What is said of the paths.
	What          string
	Gone, Tracked int64
	// Token confirms exactly these paths.
	Token string
}

func (e *PathsError) Error() string {
	return fmt.Sprintf("PruneBlocked: %d of %d nodes %s: nothing is deleted until a person has looked and confirms it with the annotation afterimage.io/confirm-prune: %s",
		e.Gone, e.Tracked, e.What, e.Token)
}

// Paths judges whether these paths, in a fixed order, of all that are tracked may go.
// held is how many were tracked when paths were held back before, 0 if none are: what
// was added since makes a loss no smaller. The error is nil or a [PathsError].
func Paths(l Limit, what string, gone []string, tracked, held int64, confirmed string) error {
	t := Tally{Gone: int64(len(gone)), Tracked: tracked}
	if held > 0 {
		t.Tracked = max(min(tracked, held), t.Gone)
	}
	if l.Judge(t, t) == Within {
		return nil
	}
	h := sha256.New()
	for _, p := range append([]string{what}, gone...) {
		h.Write([]byte(p + "\x00"))
	}
	e := &PathsError{What: what, Gone: t.Gone, Tracked: t.Tracked, Token: hex.EncodeToString(h.Sum(nil)[:5])}
	if e.Token == confirmed {
		return nil
	}
	return e
}
