package logging

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"
	"k8s.io/klog/v2"
)

// timestampLayout is RFC 3339 with all nine digits, so that lines sort as text.
const timestampLayout = "2006-01-02T15:04:05.000000000Z07:00"

// timestampKey is what the documented contract calls slog's time.
const timestampKey = "timestamp"

// New returns a logger that writes one JSON object a line. process names the
// component and consumerID its instance; an empty consumerID is left out. The
// level may change while the logger is in use (a [slog.LevelVar]).
func New(w io.Writer, level slog.Leveler, process, consumerID string) *slog.Logger {
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: replace})
	id := []any{slog.String("id", process)}
	if consumerID != "" {
		id = append(id, slog.String("consumerID", consumerID))
	}
	return slog.New(h).With(slog.Group("process", id...))
}

// replace renames what slog names otherwise and turns every value into a string.
func replace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.TimeKey:
			if a.Value.Kind() == slog.KindTime {
				a.Key = timestampKey
			}
		case slog.LevelKey:
			if l, ok := a.Value.Any().(slog.Level); ok {
				return slog.String(slog.LevelKey, strings.ToLower(l.String()))
			}
		}
	}
	if a.Key != "" { // an empty Attr is how an absent one is said: it stays out
		a.Value = text(a.Value)
	}
	return a
}

// text is the string form of a value.
func text(v slog.Value) slog.Value {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString, slog.KindGroup:
		return v
	case slog.KindTime:
		return slog.StringValue(v.Time().UTC().Format(timestampLayout))
	case slog.KindBool:
		return slog.StringValue(strconv.FormatBool(v.Bool()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case nil:
			return slog.StringValue("")
		case error:
			return slog.StringValue(x.Error())
		case []byte:
			// Never print bytes: they could be a body.
			return slog.StringValue(strconv.Itoa(len(x)) + " bytes")
		case []string:
			return slog.StringValue(strings.Join(x, ", "))
		}
		return slog.StringValue(fmt.Sprint(v.Any()))
	default: // numbers and durations
		return slog.StringValue(v.String())
	}
}

// ParseLevel reads a level as people write it.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: want debug, info, warn or error", s)
}

// Capture makes the libraries that log by themselves (client-go through klog,
// net/http through log) write through l.
func Capture(l *slog.Logger) {
	klog.SetSlogLogger(l)
	slog.SetDefault(l)
}

// Kafka returns the option that makes a Kafka client log its warnings and
// errors through l. What is below is of interest to developers of the client
// only, and what it says again at every try is said once (SPEC 38).
func Kafka(l *slog.Logger) kgo.Opt {
	return kgo.WithLogger(kslog.New(slog.New(newOnce(atLeast{l.Handler(), slog.LevelWarn}, quiet))))
}

// Since is how long ago t was, rounded for people to read.
func Since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
