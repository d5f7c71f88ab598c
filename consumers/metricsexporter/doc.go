// Package metricsexporter is the place of the reader of outcomes that serves
// Prometheus metrics. It is not built yet; afterimage status says the same.
package metricsexporter
