package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/klog/v2"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/topology"
)

// The two examples of the document, verbatim.
const (
	exampleRead = `{
"level": "info",
"timestamp": "2023-11-28T18:05:26.904276629Z",
"msg": "object read from cluster",
"process": {"id": "eventslistener"},
"sourceCluster": {"name": "source", "namespace": "dr-config", "resourceVersion": "91015", "uid": "3c39aaf0-4216-43a8-b23c-63f082b22436"},
"sourceObject": {"apiGroup": "apps", "apiVersion": "v1", "name": "nginx-deployment-five", "namespace": "test-namespace-five", "resource": "deployments", "resourceVersion": "61949", "uid": "5eb6d1d1-b694-4679-a482-d453bcd5317f"},
"oldSourceObject": {"apiGroup": "apps", "apiVersion": "v1", "name": "nginx-deployment-five", "namespace": "test-namespace-five", "resource": "deployments", "resourceVersion": "61949", "uid": "5eb6d1d1-b694-4679-a482-d453bcd5317f"},
"lastUpdate": {"time": "2023-11-25T13:12:28.251894531Z", "userUID": "165d3e9f-04f4-418e-863f-07203389b51e", "username": "kubernetes-admin"},
"event": {"type": "update"}
}`
	exampleUploaded = `{
"level": "info",
"timestamp": "2023-11-28T18:05:27.593493962Z",
"msg": "object uploaded in bucket",
"sourceObject": {"apiGroup": "apps", "apiVersion": "v1", "name": "helloworld", "namespace": "test-namespace-one", "resource": "deployments", "resourceVersion": "936", "uid": "7c2ac690-3279-43ca-b14e-57b6d57e78e1"},
"oldSourceObject": {"apiGroup": "apps", "apiVersion": "v1", "name": "helloworld", "namespace": "test-namespace-one", "resource": "deployments", "resourceVersion": "936", "uid": "7c2ac690-3279-43ca-b14e-57b6d57e78e1"},
"process": {"id": "processor", "consumerID": "event-processor-n74"},
"bucket": {"name": "bucket-dev", "namespace": "dr-config", "resourceVersion": "91006", "uid": "47b50013-3058-4283-8c0d-ea3a3022a339"},
"bucketObject": {"path": "dr-config/pre/apps-v1-deployments/test-namespace-one.helloworld"},
"lastUpdate": {"time": "2023-11-25T13:12:29.625399813Z", "userUID": "165d3e9f-04f4-418e-863f-07203389b51e", "username": "kubernetes-admin"}
}`
)

// emit writes one line at a given time through the handler of a logger.
func emit(t *testing.T, l *slog.Logger, at string, msg string, attrs ...slog.Attr) {
	t.Helper()
	when, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		t.Fatal(err)
	}
	// Another zone than UTC: the handler has to convert.
	r := slog.NewRecord(when.In(time.FixedZone("", 5*3600)), slog.LevelInfo, msg, 0)
	r.AddAttrs(attrs...)
	if err := l.Handler().Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, line string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("line is not one JSON object: %v\n%s", err, line)
	}
	return m
}

func TestDocumentedExamples(t *testing.T) {
	who := settings.Settings{LastUpdateUserUID: "165d3e9f-04f4-418e-863f-07203389b51e", LastUpdateUsername: "kubernetes-admin"}

	var read bytes.Buffer
	nginx := topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "test-namespace-five", Name: "nginx-deployment-five"}
	who.LastUpdateTime = "2023-11-25T13:12:28.251894531Z"
	emit(t, New(&read, slog.LevelInfo, "eventslistener", ""), "2023-11-28T18:05:26.904276629Z", ObjectRead,
		SourceCluster(settings.Asset{Name: "source", Namespace: "dr-config", ResourceVersion: "91015", UID: "3c39aaf0-4216-43a8-b23c-63f082b22436"}),
		SourceObject(nginx, "5eb6d1d1-b694-4679-a482-d453bcd5317f", "61949"),
		OldSourceObject(nginx, "5eb6d1d1-b694-4679-a482-d453bcd5317f", "61949"),
		LastUpdate(who), Event(topology.Update))
	if diff := cmp.Diff(decode(t, exampleRead), decode(t, read.String())); diff != "" {
		t.Errorf("an object read from the source cluster (-documented +written):\n%s", diff)
	}

	var uploaded bytes.Buffer
	hello := topology.Key{Group: "apps", Version: "v1", Resource: "deployments", Namespace: "test-namespace-one", Name: "helloworld"}
	who.LastUpdateTime = "2023-11-25T13:12:29.625399813Z"
	attrs := append(Bucket(settings.Asset{Name: "bucket-dev", Namespace: "dr-config", ResourceVersion: "91006", UID: "47b50013-3058-4283-8c0d-ea3a3022a339"},
		"dr-config/pre/apps-v1-deployments/test-namespace-one.helloworld"),
		SourceObject(hello, "7c2ac690-3279-43ca-b14e-57b6d57e78e1", "936"),
		OldSourceObject(hello, "7c2ac690-3279-43ca-b14e-57b6d57e78e1", "936"),
		LastUpdate(who))
	emit(t, New(&uploaded, slog.LevelInfo, "processor", "event-processor-n74"), "2023-11-28T18:05:27.593493962Z", ObjectUploaded, attrs...)
	if diff := cmp.Diff(decode(t, exampleUploaded), decode(t, uploaded.String())); diff != "" {
		t.Errorf("an object uploaded to a bucket (-documented +written):\n%s", diff)
	}
}

func TestEverythingIsAString(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, slog.LevelDebug, "synchronizer", "a-0")
	l.Warn("trouble", "n", 3, "ok", true, "took", 1500*time.Millisecond, "err", errors.New("no"), "at", time.Unix(0, 0),
		"names", []string{"a", "b"}, "body", []byte("secret"), "nothing", nil, "f", 1.5,
		Event(topology.Hold), Err(nil), LastUpdate(settings.Settings{}), slog.Group("g", "time", 7, "level", 8))
	want := map[string]any{
		"level": "warn", "msg": "trouble",
		"process": map[string]any{"id": "synchronizer", "consumerID": "a-0"},
		"n":       "3", "ok": "true", "took": "1.5s", "err": "no", "at": "1970-01-01T00:00:00.000000000Z",
		"names": "a, b", "body": "6 bytes", "nothing": "", "f": "1.5", "g": map[string]any{"time": "7", "level": "8"},
	}
	got := decode(t, out.String())
	if ts, _ := got["timestamp"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$`).MatchString(ts) {
		t.Errorf("timestamp %q is not RFC 3339 in UTC with nanoseconds", ts)
	}
	delete(got, "timestamp")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a line with values of every type (-want +got):\n%s", diff)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("one line expected, got %d", n)
	}
}

func TestMessagesAreTheDocuments(t *testing.T) {
	// Those a reader would "correct": spelling is part of the contract.
	for got, want := range map[string]string{
		ErrDeletingFromBucket: "error deleting object form bucket",
		CreatingNamespace:     "creating namespace from cluster",
		ServerGroupsRead:      "server group and resources read from cluster",
		ListedNothing:         "list objects not found in cluster",
		ListingBucket:         "listing object from bucket",
	} {
		if got != want {
			t.Errorf("message %q, the document has %q", got, want)
		}
	}
}

func TestStateSaysItOncePerChange(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, slog.LevelInfo, "synchronizer", "")
	var s State
	s.Working(l, "destination reached") // no news: it never failed
	for range 5 {
		s.Failing(l, "Unreachable", "destination not reachable", Err(errors.New("connection refused")))
	}
	s.Failing(l, "Unauthorized", "destination refuses the credentials")
	s.Working(l, "destination reached")
	s.Working(l, "destination reached")
	s.Failing(l, "Unreachable", "destination not reachable")

	var msgs []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		m := decode(t, line)
		msgs = append(msgs, m["level"].(string)+" "+m["msg"].(string))
		if m["msg"] == "destination reached" && m["attempts"] != "6" {
			t.Errorf("attempts %v, want 6", m["attempts"])
		}
	}
	want := []string{
		"warn destination not reachable", "warn destination refuses the credentials",
		"info destination reached", "warn destination not reachable",
	}
	if diff := cmp.Diff(want, msgs); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if r, since := s.Reason(); r != "Unreachable" || since.IsZero() {
		t.Errorf("reason %q since %v", r, since)
	}
}

func TestParseLevel(t *testing.T) {
	for in, want := range map[string]slog.Level{"": slog.LevelInfo, "debug": slog.LevelDebug, "WARN": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ParseLevel(in); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), "want debug, info, warn or error") {
		t.Errorf("ParseLevel(loud): %v", err)
	}
}

func TestLibrariesLogThroughUs(t *testing.T) {
	var out bytes.Buffer
	old := slog.Default()
	defer func() { slog.SetDefault(old); klog.ClearLogger() }()
	Capture(New(&out, slog.LevelWarn, "run", ""))
	klog.InfoS("reflector started")
	klog.ErrorS(errors.New("boom"), "watch ended")
	klog.Flush()
	if m := decode(t, out.String()); m["level"] != "error" || m["msg"] != "watch ended" {
		t.Errorf("klog's error is logged as %v", m)
	}
}
