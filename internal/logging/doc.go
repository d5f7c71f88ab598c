// Package logging writes the log lines operators parse: one JSON object a line,
// with the field names of the documented contract and nothing but strings in
// them, so that a log store never meets two types under one name.
//
// It guarantees the names and the forms of the fields; that nothing secret is in
// them is the callers' part: no body of an object is ever an attribute.
package logging
