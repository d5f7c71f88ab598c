// Package audit is the place of the reader that tells from changes and outcomes
// what changed, who did it and when it was applied. It is not built yet; what it
// needs (field managers, observation and append times, outcomes) is in the log.
package audit
