// Package streamtest says what every broker must do for package stream, as
// tests: the embedded broker and a real Kafka run the same.
package streamtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/stream"
)

// Target is the broker under test.
type Target struct {
	Dial stream.Dial
	// Stop and Start interrupt the broker, keeping its data.
	Stop, Start func() error
}

// Run runs the suite.
func Run(t *testing.T, target Target) {
	for _, c := range []struct {
		name string
		test func(*env)
	}{
		{"AppendAndReadInOrder", appendAndReadInOrder},
		{"ReadPassesOverWhatIsGone", readBounds},
		{"FoldKnowsTheLast", foldKnowsTheLast},
		{"AtFindsARecord", atFindsARecord},
		{"SinceAMoment", sinceAMoment},
		{"TopicsAndSettings", topicsAndSettings},
		{"TailFollows", tailFollows},
		{"TailsOfOnePartition", tailsOfOnePartition},
		{"TailReopenedElsewhere", tailReopenedElsewhere},
		{"SlowTailHoldsUpNobody", slowTail},
		{"BusyTail", busyTail},
		{"BigRecord", bigRecord},
		{"TailOutOfRange", tailOutOfRange},
		{"TopicRecreated", topicRecreated},
		{"TopicRecreatedTailByTail", topicRecreatedTailByTail},
		{"EnsureChecks", ensureChecks},
		{"AppendRefuses", appendRefuses},
		{"GroupShares", groupShares},
		{"GroupKilledMemberRestarts", groupKilledMember},
		{"GroupRunIsStartedAgain", groupRunAgain},
		{"GroupOfARecreatedTopic", groupOfARecreatedTopic},
		{"GroupInstanceIDTwice", groupInstanceIDTwice},
		{"BrokerOutage", brokerOutage},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(newEnv(t, target))
		})
	}
}

type env struct {
	*testing.T
	target Target
	ctx    context.Context
	c      *stream.Client
	topic  string
}

func newEnv(t *testing.T, target Target) *env {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	e := &env{T: t, target: target, ctx: ctx, topic: fmt.Sprintf("test.%s.%08x", t.Name()[strings.LastIndexByte(t.Name(), '/')+1:], rand.Uint32())}
	e.c = e.client("test")
	return e
}

func (e *env) client(id string) *stream.Client {
	e.Helper()
	c, err := stream.NewClient(e.target.Dial, id)
	e.must(err)
	e.Cleanup(c.Close)
	return c
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) wantErr(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("error %v, want %v", err, want)
	}
}

func (e *env) create(partitions int32) {
	e.Helper()
	_, err := e.c.Ensure(e.ctx, e.topic, stream.TopicSettings{
		Partitions: partitions, Replication: -1,
		Configs: map[string]string{"cleanup.policy": "compact", "max.message.bytes": "4194304", "message.timestamp.type": "LogAppendTime"},
	})
	e.must(err)
}

func (e *env) writer() *stream.Writer {
	e.Helper()
	w, err := e.c.Writer()
	e.must(err)
	e.Cleanup(w.Close)
	return w
}

func (e *env) record(p int32, key, value string) *kgo.Record {
	r := &kgo.Record{Topic: e.topic, Partition: p, Key: []byte(key), Headers: []kgo.RecordHeader{{Key: "schema", Value: []byte("1")}}}
	if value != "" {
		r.Value = []byte(value)
	}
	return r
}

// fill appends n records to a partition; keys repeat after `keys`.
func (e *env) fill(w *stream.Writer, p int32, from, n, keys int) {
	e.Helper()
	var recs []*kgo.Record
	for i := from; i < from+n; i++ {
		recs = append(recs, e.record(p, fmt.Sprintf("k%d", i%keys), fmt.Sprint(i)))
	}
	e.must(w.AppendSync(e.ctx, recs...))
}

func (e *env) tail(p int32, from int64) *stream.Tail {
	e.Helper()
	t, err := e.c.Tail(e.topic, p, from)
	e.must(err)
	e.Cleanup(t.Close)
	return t
}

// next reads n records, which must be gapless from an offset on.
func (e *env) next(t *stream.Tail, from int64, n int) {
	e.Helper()
	for got := 0; got < n; {
		recs, err := t.Next(e.ctx)
		e.must(err)
		for _, r := range recs {
			if r.Offset != from {
				e.Fatalf("record at %d, want %d", r.Offset, from)
			}
			if string(r.Value) != fmt.Sprint(from) {
				e.Fatalf("record at %d holds %q", from, r.Value)
			}
			from++
			got++
		}
	}
}

func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 60*time.Second {
			e.Fatalf("waited in vain for: %s", what)
		}
	}
}
