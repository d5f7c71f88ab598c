package archiver

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/settings"
	"github.com/afterimage-dr/afterimage/internal/stream"
	"github.com/afterimage-dr/afterimage/internal/testenv"
	"github.com/afterimage-dr/afterimage/state/bucket"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// onS3 is a rig whose bucket is on a real server that checks signatures.
type onS3 struct {
	*rig
	server *testenv.S3
	client *bucket.Bucket
}

func newOnS3(t *testing.T, options ...testenv.S3Option) *onS3 {
	t.Helper()
	server := testenv.StartS3(t, options...)
	server.CreateBucket("originals")
	o := bucket.Options{Endpoint: server.Endpoint, Name: "originals", AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey, Prefix: "standby"}
	client, err := bucket.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.open = nil // as in life
	r.options.Set(o)
	return &onS3{rig: r, server: server, client: client}
}

// holds reads and verifies everything in the bucket: name → data.
func (r *onS3) holds() (m, error) {
	out := m{}
	err := r.client.List(r.ctx, bucket.Folder("dr", "ls"), func(e bucket.Entry) error {
		o, err := r.client.Get(r.ctx, e.Path)
		if err != nil {
			return err
		}
		out[o.Key.Name] = dataOf(o.Body)
		return nil
	})
	return out, err
}

func (r *onS3) want(reason string, want m) {
	r.Helper()
	var got m
	var err error
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got, err = r.holds(); err == nil && maps.Equal(got, want) {
			return
		}
	}
	r.Fatalf("%s: the bucket holds %v, want %v (%v)", reason, got, want, err)
}

// credentials signs in with another key.
func (r *onS3) credentials(secret string) {
	o := r.options.Load()
	o.SecretAccessKey = secret
	r.options.Set(o)
}

func (r *onS3) awaitReason(reason string) {
	r.Helper()
	r.eventually("BucketReady is False with "+reason, func() bool {
		_, c, _ := r.status()
		return c.Status == metav1.ConditionFalse && c.Reason == reason && c.Message != ""
	})
}

func TestOnAServer(t *testing.T) {
	r := newOnS3(t)
	r.configure(everything)
	want := m{}
	for i := range 50 {
		name := fmt.Sprint("a", i)
		want[name] = "1"
		r.put(name, "1")
	}
	r.put("a:b.c", "1") // as RBAC names are
	want["a:b.c"] = "1"
	r.start()
	r.want("filled", want)
	r.put("a0", "2")
	r.remove("a1")
	want["a0"] = "2"
	delete(want, "a1")
	r.want("updated and deleted", want)
	r.listed()
	r.settle()

	// Emptied by somebody.
	for name := range want {
		if _, err := r.server.Client().DeleteObject(r.ctx, &s3.DeleteObjectInput{Bucket: aws.String("originals"), Key: aws.String("standby/" + path(name))}); err != nil {
			t.Fatal(err)
		}
	}
	r.set(func(s *settings.Settings) { s.ResyncPeriod = 200 * time.Millisecond })
	r.want("filled again at the next comparison", want)
	r.set(func(s *settings.Settings) { s.ResyncPeriod = 0 })

	r.kill()
	r.wipe()
	r.start()
	r.settle()
	if c := r.a.Counts(); c.Stored != 0 || c.Removed != 0 {
		t.Errorf("lost state: %+v, want nothing written", c)
	}

	r.set(func(s *settings.Settings) { s.Suspend = true })
	time.Sleep(100 * time.Millisecond)
	r.put("later", "1")
	time.Sleep(500 * time.Millisecond)
	r.want("nothing while suspended", want)
	r.set(func(s *settings.Settings) { s.Suspend = false })
	want["later"] = "1"
	r.want("then all", want)
}

func TestCredentialsExpire(t *testing.T) {
	r := newOnS3(t)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.want("before", m{"a": "1"})
	r.credentials("expired-and-of-no-use")
	r.awaitReason(bucket.Unauthorized)
	r.put("a", "2")
	r.put("b", "1")
	time.Sleep(500 * time.Millisecond)
	if _, _, st := r.status(); len(st.Failing) != 0 {
		t.Errorf("quarantined: %+v", st.Failing)
	}
	r.credentials(r.server.SecretKey)
	r.want("caught up", m{"a": "2", "b": "1"})
	r.eventually("Ready again", func() bool { c, b, _ := r.status(); return c.Ready && b.Status == metav1.ConditionTrue })
}

func TestServerKilled(t *testing.T) {
	r := newOnS3(t)
	r.configure(everything)
	want := m{}
	put := func(i int) { name := fmt.Sprint("a", i); want[name] = "1"; r.put(name, "1") }
	for i := range 100 {
		put(i)
	}
	r.start()
	r.eventually("uploads are under way", func() bool { return r.a.Counts().Stored > 5 })
	r.server.Kill()
	for i := range 20 {
		put(100 + i)
	}
	r.remove("a0")
	delete(want, "a0")
	r.awaitReason(bucket.Unreachable)
	r.server.Start()
	r.want("nothing is lost", want)
	r.settle()
	if _, _, st := r.status(); len(st.Failing) != 0 {
		t.Errorf("quarantined: %+v", st.Failing)
	}
}

func TestConnectionsCut(t *testing.T) {
	r := newOnS3(t, testenv.WithS3Proxy())
	r.configure(everything)
	r.start()
	want := m{}
	for i := range 60 {
		name := fmt.Sprint("a", i%20)
		want[name] = fmt.Sprint(i)
		r.put(name, want[name])
		if i%10 == 9 {
			r.server.Proxy.Cut() // outcomes become unknown
		}
	}
	r.want("as the log", want)
}

func TestNoSuchBucket(t *testing.T) {
	r := newOnS3(t)
	o := r.options.Load()
	o.Name = "not-there"
	r.options.Set(o)
	r.configure(everything)
	r.put("a", "1")
	r.start()
	r.awaitReason(bucket.NoSuchBucket)
	r.server.CreateBucket("not-there")
	if r.client, _ = bucket.New(o); r.client == nil {
		t.Fatal("no client")
	}
	r.want("once there is one", m{"a": "1"})
}

func TestOnKafka(t *testing.T) {
	kafka := testenv.StartKafka(t)
	name := fmt.Sprint("archiver", time.Now().UnixNano())
	r := newRigOn(t, stream.Brokers(kafka.Brokers()...), name, t.TempDir(), t.Cleanup)
	r.configure(everything)
	r.put("a", "1")
	r.put("b", "1")
	ctx, cancel := context.WithCancel(r.ctx)
	r.a = New(Options{ // in the real group
		Settings: r.settings, Bucket: r.options, Log: r.log, Topics: r.topics, State: r.store.Stage("archiver"),
		Logger: r.logger(), InstanceID: "a", open: r.open, Session: 6 * time.Second,
	})
	done := make(chan error, 1)
	go func() { done <- r.a.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	r.want("what was there", m{"a": "1", "b": "1"})
	r.put("a", "2")
	r.remove("b")
	r.want("followed", m{"a": "2"})
	r.kill()
	r.put("a", "3")
	r.start()
	r.want("after a restart", m{"a": "3"})
}
