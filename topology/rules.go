package topology

// Rules is a compiled [Config]: filters, patches and what is copied. Safe for
// concurrent use.
type Rules struct {
	config Config
}

// Compile checks and compiles a configuration. Its errors name the field path.
func Compile(c Config) (*Rules, error) { panic("stub") }

// Config returns what was compiled.
func (r *Rules) Config() Config { return r.config }

// Verdict is what the rules make of a record.
type Verdict struct {
	// InScope: an entry takes the object and nothing keeps it out.
	InScope bool
	// Entry is the index of the first entry that takes it; -1 without one.
	Entry int
	// Conflict: a later entry takes it too.
	Conflict bool
	// Body is what the destination must hold, without Afterimage's own marks.
	Body []byte
	// Hash of Body (and of the namespace stamp where forceNamespaceCreation needs it).
	Hash string
	// Skip says why an object is kept out although an entry takes it (ControllerOwned, SystemNamespace, Ignored, Loop, …).
	Skip string
	// Err: the patch could not be applied; the object must be held.
	Err error
}

// Apply computes the desired state of a record of the change log. It is a pure
// function of the record and the configuration. A delete is out of scope.
func (r *Rules) Apply(rec *Record) Verdict { panic("stub") }

// Covers tells whether some entry names the resource of the key.
func (r *Rules) Covers(key Key) bool { panic("stub") }

// Skipped tells, from what never changes about an object (its namespace and its
// name), that no entry can take it, so that the eventslistener need not log it:
// system namespaces and what every cluster makes by itself.
func (r *Rules) Skipped(key Key) bool { panic("stub") }
