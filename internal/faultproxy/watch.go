package faultproxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// replayable is how far back ReplayEvent can reach.
const replayable = 64

// event is one frame of a watch.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	} `json:"object"`
}

// stream is one open watch.
type stream struct {
	*exchange
	past []json.RawMessage // the last frames sent by the API server, newest last
	end  chan struct{}     // closed to end the watch cleanly
}

// eventFault acts on one event of a watch. It returns the frames to send instead
// of it.
type eventFault interface {
	Fault
	frames(s *stream, frames []json.RawMessage) []json.RawMessage
}

type eventFunc func(s *stream, frames []json.RawMessage) []json.RawMessage

func (eventFunc) isFault() {}

func (f eventFunc) frames(s *stream, frames []json.RawMessage) []json.RawMessage {
	return f(s, frames)
}

// errEndOfWatch is panicked to end a watch as API servers do at their time limit.
var errEndOfWatch = errors.New("end of watch")

// DropEvent loses the event; the watch goes on. With Match.Events BOOKMARK it
// swallows bookmarks.
func DropEvent() Fault {
	return eventFunc(func(*stream, []json.RawMessage) []json.RawMessage { return nil })
}

// DuplicateEvent sends the event twice.
func DuplicateEvent() Fault {
	return eventFunc(func(_ *stream, frames []json.RawMessage) []json.RawMessage {
		return append(frames, frames...)
	})
}

// DelayEvent holds back the event, and so what comes after it in this watch.
func DelayEvent(d time.Duration) Fault {
	return eventFunc(func(s *stream, frames []json.RawMessage) []json.RawMessage {
		s.sleep(d)
		return frames
	})
}

// ReplayEvent sends, after the event, the one that came back events earlier in
// the same watch once more (at most 64; nothing if there is none).
func ReplayEvent(back int) Fault {
	return eventFunc(func(s *stream, frames []json.RawMessage) []json.RawMessage {
		// The newest of past is the event itself.
		if i := len(s.past) - 1 - back; i >= 0 {
			return append(frames, s.past[i])
		}
		return frames
	})
}

// CutEvent sends half of the event and breaks the connection.
func CutEvent() Fault {
	return eventFunc(func(s *stream, frames []json.RawMessage) []json.RawMessage {
		if len(frames) > 0 {
			_, _ = s.writer.Write(frames[0][:len(frames[0])/2])
			s.flush()
		}
		panic(http.ErrAbortHandler)
	})
}

// HangWatch swallows the event and everything after it in this watch, and never
// ends the connection.
func HangWatch() Fault {
	return eventFunc(func(s *stream, _ []json.RawMessage) []json.RawMessage {
		s.hang()
		return nil
	})
}

// EndWatch ends the watch in good order before the event.
func EndWatch() Fault {
	return eventFunc(func(*stream, []json.RawMessage) []json.RawMessage { panic(errEndOfWatch) })
}

// ErrorEvent sends an ERROR event with a Status instead of the event, and ends
// the watch. With code 410 it is what a compacted resource version leads to.
func ErrorEvent(code int, message string) Fault {
	return eventFunc(func(s *stream, _ []json.RawMessage) []json.RawMessage {
		frame, err := json.Marshal(map[string]any{"type": "ERROR", "object": statusOf(code, message)})
		if err != nil {
			panic(err) // a Status always encodes
		}
		s.send(frame)
		panic(errEndOfWatch)
	})
}

// EndWatches ends the open watches that match, in good order, and returns how
// many. Of an event being sent, all is sent.
func (p *HTTP) EndWatches(m Match) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for s := range p.streams {
		if m.request(s.Request, false) {
			delete(p.streams, s)
			close(s.end)
			n++
		}
	}
	return n
}

// Watches is how many open watches match.
func (p *HTTP) Watches(m Match) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for s := range p.streams {
		if m.request(s.Request, false) {
			n++
		}
	}
	return n
}

// passEvents sends a watch on, event by event.
func (x *exchange) passEvents(body io.ReadCloser) {
	s := &stream{exchange: x, end: make(chan struct{})}
	x.proxy.mu.Lock()
	x.proxy.streams[s] = struct{}{}
	x.proxy.mu.Unlock()
	events := make(chan json.RawMessage)
	stop := make(chan struct{})
	var readErr error // valid once events is closed
	go func() {
		defer close(events)
		decoder := json.NewDecoder(body)
		for {
			var frame json.RawMessage
			if readErr = decoder.Decode(&frame); readErr != nil {
				return
			}
			select {
			case events <- frame:
			case <-stop:
				return
			}
		}
	}()
	defer func() {
		close(stop)
		x.proxy.mu.Lock()
		delete(x.proxy.streams, s)
		x.proxy.mu.Unlock()
		_ = body.Close()
		if r := recover(); r != nil && r != any(errEndOfWatch) {
			panic(r)
		}
	}()
	for {
		select {
		case <-s.end:
			return
		case frame, ok := <-events:
			if !ok {
				if !errors.Is(readErr, io.EOF) {
					panic(http.ErrAbortHandler) // it broke off upstream
				}
				return
			}
			s.event(frame)
		}
	}
}

// event sends one event with its faults.
func (s *stream) event(frame json.RawMessage) {
	var e event
	if err := json.Unmarshal(frame, &e); err != nil {
		panic("faultproxy: the API server's event cannot be read: " + err.Error())
	}
	s.past = append(s.past, frame)
	if len(s.past) > replayable {
		s.past = s.past[1:]
	}
	frames := []json.RawMessage{frame}
	for _, fault := range s.proxy.eventFaults(s.Request, &e) {
		frames = fault.frames(s, frames)
	}
	for _, f := range frames {
		s.send(f)
	}
}

func (s *stream) send(frame json.RawMessage) {
	if _, err := s.writer.Write(append(frame[:len(frame):len(frame)], '\n')); err != nil {
		panic(http.ErrAbortHandler)
	}
	s.flush()
}
