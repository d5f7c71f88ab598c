package logging

import (
	"log/slog"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/topology"
)

// SourceObject is the object of the source cluster a line is about. uid and
// resourceVersion may be empty where they are not known.
func SourceObject(key topology.Key, uid, resourceVersion string) slog.Attr {
	return object("sourceObject", key, uid, resourceVersion)
}

// OldSourceObject is its previous state; lines about updates only.
func OldSourceObject(key topology.Key, uid, resourceVersion string) slog.Attr {
	return object("oldSourceObject", key, uid, resourceVersion)
}

// DestinationObject is the object of the destination cluster a line is about.
func DestinationObject(key topology.Key, uid, resourceVersion string) slog.Attr {
	return object("destinationObject", key, uid, resourceVersion)
}

func object(field string, key topology.Key, uid, resourceVersion string) slog.Attr {
	return slog.Attr{Key: field, Value: slog.GroupValue(
		slog.String("apiGroup", key.Group),
		slog.String("apiVersion", key.Version),
		slog.String("name", key.Name),
		slog.String("namespace", key.Namespace),
		slog.String("resource", key.Resource),
		slog.String("resourceVersion", resourceVersion),
		slog.String("uid", uid),
	)}
}

// SourceCluster is the source, on lines about direct access to it.
func SourceCluster(a settings.Asset) slog.Attr { return asset("sourceCluster", a) }

// DestinationCluster is the destination, on lines about direct access to it.
func DestinationCluster(a settings.Asset) slog.Attr { return asset("destinationCluster", a) }

// Bucket is the bucket and the path in it, on lines about access to it.
func Bucket(a settings.Asset, path string) []slog.Attr {
	return []slog.Attr{
		asset("bucket", a),
		{Key: "bucketObject", Value: slog.GroupValue(slog.String("path", path))},
	}
}

func asset(field string, a settings.Asset) slog.Attr {
	return slog.Attr{Key: field, Value: slog.GroupValue(
		slog.String("name", a.Name),
		slog.String("namespace", a.Namespace),
		slog.String("resourceVersion", a.ResourceVersion),
		slog.String("uid", a.UID),
	)}
}

// Event says whether the line is about a create, an update or a delete. Any
// other operation is no event of the contract and adds nothing to the line.
func Event(op topology.Op) slog.Attr {
	switch op {
	case topology.Create, topology.Update, topology.Delete:
		return slog.Attr{Key: "event", Value: slog.GroupValue(slog.String("type", string(op)))}
	}
	return slog.Attr{}
}

// LastUpdate says who last changed the LiveSynchronization, and when. Where
// nobody recorded it, it adds nothing to the line.
func LastUpdate(s settings.Settings) slog.Attr {
	if s.LastUpdateTime == "" && s.LastUpdateUserUID == "" && s.LastUpdateUsername == "" {
		return slog.Attr{}
	}
	return slog.Attr{Key: "lastUpdate", Value: slog.GroupValue(
		slog.String("time", s.LastUpdateTime),
		slog.String("userUID", s.LastUpdateUserUID),
		slog.String("username", s.LastUpdateUsername),
	)}
}

// LiveSynchronization tells apart what several of them in one process log.
func LiveSynchronization(namespace, name string) slog.Attr {
	return slog.Attr{Key: "liveSynchronization", Value: slog.GroupValue(
		slog.String("name", name),
		slog.String("namespace", namespace),
	)}
}

// Err is the attribute of an error. A nil error adds nothing to the line.
func Err(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.String("error", err.Error())
}
