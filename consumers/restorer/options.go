package restorer

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/afterimage-dr/afterimage/internal/kube"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/state/bucket"
	"github.com/afterimage-dr/afterimage/topology"
)

// Component is the name of this component in logs and status.
const Component = "restorer"

// Mode is what is asked for.
type Mode string

// The modes.
const (
	// Recover brings the applications up.
	Recover Mode = "recover"
	// Rehearse does what Recover would do, without a fence: as a server-side dry
	// run, or for real where nobody else writes: in another cluster, or in namespaces
	// of other names.
	Rehearse Mode = "rehearse"
	// Replay applies what is logged again, through today's filters and patches but
	// without the recovery process, and without a fence.
	Replay Mode = "replay"
)

// Log is the state of the source as the change log tells it.
type Log interface {
	// Each calls fn, from several goroutines, for the last record of every key that
	// want asks for (nil: of all); deletes are left out.
	Each(ctx context.Context, want func(key string) bool, fn func(*topology.Record) error) error
}

// Bucket is where originals are kept.
type Bucket interface {
	Get(ctx context.Context, path string) (bucket.Original, error)
	List(ctx context.Context, prefix string, fn func(bucket.Entry) error) error
}

// Where originals are read; as in v1alpha1.
const (
	FromAuto   = "auto"
	FromLog    = "log"
	FromBucket = "bucket"
)

// Options of a recovery. What is zero below Tasks has a default.
type Options struct {
	Mode Mode
	// Config is today's configuration with resources named in the plural, under the
	// identity of the LiveSynchronization; SourceUID and Generation as the log (or
	// the bucket) knows them.
	Config      topology.Config
	Destination *kube.Client
	// Log of the moment that is asked for; nil: there is none.
	Log Log
	// OpenLog opens the log when nobody else writes any more, in place of Log: what is
	// logged until then counts.
	OpenLog func(context.Context) (Opened, error)
	// Bucket of the LiveSynchronization; nil: there is none.
	Bucket Bucket
	// From says which of them: FromAuto (default) reads what is to be there from the
	// log, and originals from the bucket where there is one; without a log
	// everything comes from the bucket.
	From string
	// Keys is how many objects there are, for the progress; 0: not known.
	Keys int
	// PointInTime: Log is of an earlier moment, and the destination becomes as the
	// source was then, later objects deleted.
	PointInTime bool
	// Untold are resources of which Log does not tell what there was at that moment:
	// nothing of them is later.
	Untold []schema.GroupVersionResource
	// DryRun writes nothing: every write is asked for as a server-side dry run.
	DryRun bool
	// Force deletes beyond the limit, and restores originals that are older than
	// what the destination holds.
	Force bool
	// Adopt tells of keys that are marked as adopted when they are created: they are
	// kept up to date from then on, and never deleted (an object that was deleted in
	// the source and is wanted all the same). Nil: of none.
	Adopt func(key string) bool
	// Only restricts it to keys; nil: all.
	Only func(key string) bool
	// NamespacePrefix, of a rehearsal that is no dry run, puts everything into
	// namespaces of other names, under an owner of its own, so that replication takes
	// nothing of it for its own. What has no namespace is left out.
	NamespacePrefix string
	// Holder names this process at the fence.
	Holder string
	// Gone tells of a writer that is certainly not running; nil: of none.
	Gone func(instance string) bool
	// Outcomes takes what was done; nil: nobody is told.
	Outcomes *Outcomes
	// VerifiedAt is up to when the log, or the bucket, knows the source.
	VerifiedAt time.Time
	// Logger of one line per object written; nil: none.
	Logger *slog.Logger
	// Progress is told now and then, from one goroutine at a time; nil: nobody.
	Progress func(Progress)

	// Tasks at a time; default 32.
	Tasks int
	// Patience is how long an object is tried that waits for something else;
	// default 2 min.
	Patience time.Duration
}

// Outcomes is where a recovery notes what it did.
type Outcomes struct {
	Client     *stream.Client
	Topic      string
	Partitions int32
	// Writer is the incarnation.
	Writer string
}

// Opened is a log as of now.
type Opened struct {
	Log Log
	// Keys and VerifiedAt: see Options.
	Keys       int
	VerifiedAt time.Time
	// Warnings about what it does not tell.
	Warnings []string
}

// Progress of a recovery.
type Progress struct {
	// Phase in words: waiting for the destination, for writers, reading, writing, …
	Phase string
	// Done of Total objects; Total is 0 while it is not known.
	Done, Total, Failed int
}

func (o *Options) setDefaults() {
	if o.Tasks <= 0 {
		o.Tasks = 32
	}
	if o.Patience <= 0 {
		o.Patience = 2 * time.Minute
	}
	if o.From == "" {
		o.From = FromAuto
	}
	if o.Mode == "" {
		o.Mode = Recover
	}
	if o.Gone == nil {
		o.Gone = func(string) bool { return false }
	}
	if o.Adopt == nil {
		o.Adopt = func(string) bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
}
