// Package settings is what the components of a running LiveSynchronization are
// told by whoever started them, and may change while they run: everything that
// must take effect at once and not in the order of the log. What computes
// desired states travels in the log instead (topology.Config).
package settings

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/afterimage-dr/afterimage/internal/live"
	"github.com/afterimage-dr/afterimage/topology"
)

// Asset identifies a cluster or bucket in logs.
type Asset struct {
	Name, Namespace, ResourceVersion, UID string
}

// Settings of one LiveSynchronization.
type Settings struct {
	// Config as the manifests ask for it; Generation and the cluster UIDs are
	// filled in by the eventslistener before it goes into the log.
	Config topology.Config
	// Suspend stops every write to the destination.
	Suspend bool
	// ResyncPeriod between two comparisons; 0: never.
	ResyncPeriod time.Duration
	// ConcurrentTasks per component (eventslistener, processor, synchronizer,
	// reconciler, archiver).
	ConcurrentTasks map[string]int
	// Source, Destination and Bucket, for logs; Bucket is empty where there is none.
	Source, Destination, Bucket Asset
	// LastUpdate of the LiveSynchronization, for logs (SPEC: lastUpdate).
	LastUpdateTime, LastUpdateUserUID, LastUpdateUsername string
	// ConfirmPrune and ConfirmSource are what a person confirmed (annotations
	// afterimage.io/confirm-prune, one token or several, and
	// afterimage.io/confirm-source).
	ConfirmPrune, ConfirmSource string
	// Resume is the term of the recovery fence that a person asked to lift
	// (annotation afterimage.io/resume).
	Resume string
}

// ConfirmedPrunes are the tokens a person gave. Several components may ask at a
// time, each for its own deletes: the tokens stand in one annotation, with commas
// or spaces between them.
func (s Settings) ConfirmedPrunes() []string {
	return strings.FieldsFunc(s.ConfirmPrune, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// ConfirmsPrune tells whether a person gave the token.
func (s Settings) ConfirmsPrune(token string) bool {
	return slices.Contains(s.ConfirmedPrunes(), token)
}

// Live is the settings as they stand now.
type Live = live.Value[Settings]
