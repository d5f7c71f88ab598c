// Package logging writes the log lines operators parse.
package logging

import (
	"io"
	"log/slog"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/topology"
)

// New returns a logger that writes one JSON object a line.
func New(w io.Writer, level slog.Leveler, process, consumerID string) *slog.Logger { panic("stub") }

// SourceObject, OldSourceObject and DestinationObject describe an object.
func SourceObject(key topology.Key, uid, resourceVersion string) slog.Attr    { panic("stub") }
func OldSourceObject(key topology.Key, uid, resourceVersion string) slog.Attr { panic("stub") }
func DestinationObject(key topology.Key, uid, resourceVersion string) slog.Attr {
	panic("stub")
}

// SourceCluster, DestinationCluster and Bucket describe an asset.
func SourceCluster(a settings.Asset) slog.Attr      { panic("stub") }
func DestinationCluster(a settings.Asset) slog.Attr { panic("stub") }
func Bucket(a settings.Asset, path string) []slog.Attr {
	panic("stub")
}

// Event says what happened.
func Event(op topology.Op) slog.Attr { panic("stub") }

// LastUpdate of the LiveSynchronization.
func LastUpdate(s settings.Settings) slog.Attr { panic("stub") }

// Err is the attribute of an error.
func Err(err error) slog.Attr { panic("stub") }
