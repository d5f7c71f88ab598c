package kube

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// EventType of a watch.
type EventType string

// The event types.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
	Bookmark EventType = "BOOKMARK"
)

// errorEvent carries a Status; it leaves Next as an error.
const errorEvent EventType = "ERROR"

// Event of a watch.
type Event struct {
	Type EventType
	// Object, with kind and apiVersion; of a bookmark, only its
	// metadata.resourceVersion means something.
	Object json.RawMessage
}

// minWatch is how long a watch is asked for at least, and at most twice that:
// spread, so that not all of them reconnect at once.
const minWatch = 5 * time.Minute

// maxFrame is the largest event: etcd holds objects of 1.5 MiB by default, and
// an aggregated API server may have larger ones.
const maxFrame = 64 << 20

// Watch streams events with bookmarks.
type Watch struct {
	ctx    context.Context
	cancel context.CancelFunc
	body   io.ReadCloser
	frames *bufio.Reader
	what   string
	began  time.Time
	heard  atomic.Int64 // nanoseconds after began
}

// Watch begins one after a resourceVersion. Too old (here or from Next):
// apierrors.IsResourceExpired or IsGone. The client's timeout bounds only the
// time until the server accepts the watch. The server ends it after 5 to 10
// minutes; begin another at the last resourceVersion seen.
func (c *Client) Watch(ctx context.Context, r Resource, namespace, resourceVersion string) (*Watch, error) {
	return c.watch(ctx, r, namespace, resourceVersion, minWatch+rand.N(minWatch))
}

func (c *Client) watch(ctx context.Context, r Resource, namespace, resourceVersion string, life time.Duration) (*Watch, error) {
	q := request{verb: http.MethodGet, resource: r, namespace: namespace, query: url.Values{
		"watch":               {"true"},
		"allowWatchBookmarks": {"true"},
		"resourceVersion":     {resourceVersion},
		"timeoutSeconds":      {strconv.Itoa(int(life / time.Second))},
	}}
	inner, cancel := context.WithCancelCause(ctx)
	accepted := time.AfterFunc(c.timeout, func() { cancel(errTimeout) })
	resp, err := c.send(inner, &q)
	if !accepted.Stop() && err == nil {
		resp.Body.Close()
		err = errTimeout
	}
	if err != nil {
		err = c.explain(ctx, inner, &q, err)
		cancel(nil)
		return nil, err
	}
	return &Watch{
		ctx: ctx, cancel: func() { cancel(nil) }, body: resp.Body, frames: bufio.NewReaderSize(resp.Body, 32<<10),
		what: "watch " + q.url(c.base).Path, began: time.Now(),
	}, nil
}

// Idle is how long the watch has been silent: no event and no bookmark. A server
// sends a bookmark about each minute, but only if its resourceVersion went on: a
// watch hangs if it is silent for several minutes while consistent listings show
// ever newer resourceVersions. Silence alone may be an idle cluster.
func (w *Watch) Idle() time.Duration { return time.Since(w.began) - time.Duration(w.heard.Load()) }

// Next waits for the next event. io.EOF: the server closed the watch normally.
// An ERROR event is returned as its API error. When the context of the watch has
// ended its cause is returned; after Close, context.Canceled. A watch that was cut, or spoke something
// else than watch frames, makes [Unavailable] true; no part of a cut event is
// ever returned. Not for concurrent use; only Close and Idle are.
func (w *Watch) Next() (Event, error) {
	ev, err := w.next()
	if err != nil {
		return Event{}, w.explain(err)
	}
	w.heard.Store(int64(time.Since(w.began)))
	return ev, nil
}

func (w *Watch) explain(err error) error {
	switch {
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, io.EOF) || isAnswer(err):
		return err
	}
	return &transportError{what: w.what, err: err}
}

// next reads one frame: a JSON object and a newline. An object that spans lines
// is accepted, since only the JSON says where a frame ends.
func (w *Watch) next() (Event, error) {
	var frame []byte
	for {
		line, err := w.frames.ReadSlice('\n')
		frame = append(frame, line...)
		if len(frame) > maxFrame {
			return Event{}, fmt.Errorf("a frame of more than %d bytes", maxFrame)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			if len(bytes.TrimSpace(frame)) == 0 {
				return Event{}, io.EOF
			}
			// The server always ends a frame with a newline: this one was cut.
			return Event{}, io.ErrUnexpectedEOF
		case err != nil:
			return Event{}, err
		}
		if skipSpace(frame, 0) == len(frame) {
			frame = frame[:0]
			continue
		}
		ev, err := decodeFrame(frame)
		if errors.Is(err, errTruncated) {
			continue
		}
		return ev, err
	}
}

// decodeFrame decodes an event; its object aliases frame.
func decodeFrame(frame []byte) (Event, error) {
	var ev Event
	end, err := walkObject(frame, skipSpace(frame, 0), 0, func(key, value []byte) (err error) {
		switch string(key) {
		case `"type"`:
			var t string
			t, err = unquote(value)
			ev.Type = EventType(t)
		case `"object"`:
			ev.Object = value
		}
		return err
	})
	if err != nil {
		return Event{}, err
	}
	if end = skipSpace(frame, end); end != len(frame) {
		return Event{}, badJSON(frame, end, "the end of the frame")
	}
	switch ev.Type {
	case Added, Modified, Deleted, Bookmark:
		if len(ev.Object) == 0 || ev.Object[0] != '{' {
			return Event{}, fmt.Errorf("event %s without an object", ev.Type)
		}
		return ev, nil
	case errorEvent:
		if s := statusOf(ev.Object); s != nil {
			return Event{}, s
		}
		return Event{}, fmt.Errorf("event ERROR without a Status")
	}
	return Event{}, fmt.Errorf("unknown event type %q", ev.Type)
}

// Close ends it and makes a waiting Next return.
func (w *Watch) Close() {
	w.cancel()
	_ = w.body.Close() // a read of it is over either way
}
