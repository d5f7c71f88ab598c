package pipeline

// The components, as manifests, logs and status name them.
const (
	EventsListener = "eventslistener"
	Processor      = "processor"
	Synchronizer   = "synchronizer"
	Reconciler     = "reconciler"
)
