package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/topology"
)

// session of the consumer groups in these tests: Kafka's own minimum.
const session = 6 * time.Second

// broker is the Apache Kafka that the tests of this package share, with a fault
// proxy before it. Each test has topics of its own.
var broker struct {
	once  sync.Once
	kafka *testcluster.Kafka
	proxy *faultproxy.TCP
	free  func()
	err   error
}

func startBroker() error {
	addresses, free, err := testcluster.Ports(1)
	if err != nil {
		return err
	}
	broker.free = free
	if broker.proxy, err = faultproxy.NewTCP(addresses[0]); err != nil {
		return err
	}
	broker.kafka, err = testcluster.StartKafka(context.Background(), testcluster.KafkaConfig{
		Listen: addresses[0], Advertised: broker.proxy.Addr(),
	})
	return err
}

// stopBroker ends it with the test binary.
func stopBroker() error {
	var errs []error
	if broker.kafka != nil {
		errs = append(errs, broker.kafka.Close())
	}
	if broker.proxy != nil {
		errs = append(errs, broker.proxy.Close())
	}
	if broker.free != nil {
		broker.free()
	}
	return errors.Join(errs...)
}

// kafka returns the shared broker. Where there is no Java there is none, which
// only a machine that is not the project's own may have.
func kafka(t *testing.T) *testcluster.Kafka {
	t.Helper()
	needsServers(t)
	broker.once.Do(func() { broker.err = startBroker() })
	if errors.Is(broker.err, testcluster.ErrNoJava) && os.Getenv("CI") != "true" {
		t.Skipf("no Apache Kafka: %v", broker.err)
	}
	if broker.err != nil {
		t.Fatal(broker.err)
	}
	return broker.kafka
}

// newKafkaOrdeal is an ordeal whose log is in the shared Kafka.
func newKafkaOrdeal(t *testing.T) *ordeal {
	t.Helper()
	k := kafka(t)
	o := newOrdeal(t)
	o.rig.args = []string{"--brokers", k.Addr(), "--session-timeout", session.String()}
	return o
}

// member is one more process with the same manifests.
func (o *ordeal) member(name string) *rig {
	o.t.Helper()
	r := &rig{dir: o.rig.dir, binary: o.rig.binary, source: o.rig.source, destination: o.rig.destination, args: o.rig.args, member: "-" + name}
	o.t.Cleanup(func() {
		r.kill()
		if b, err := os.ReadFile(r.logFile()); err == nil && o.t.Failed() {
			o.t.Log("log of member ", name, " kept in ", saveLog(b))
		}
	})
	return r
}

// admin administers the shared Kafka, by way of the proxy as everybody.
func admin(t *testing.T) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka(t).Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// Guarantee 10 with a log on another machine: ten SIGKILLs at random, and one
// after each of six steps.
func TestKafkaKills(t *testing.T) {
	o := newKafkaOrdeal(t)
	o.work()
	for range 10 {
		o.start()
		o.sleep(500*time.Millisecond, 3*time.Second)
		o.rig.kill()
	}
	for _, step := range []string{
		"eventslistener/after-produce", "eventslistener/before-commit", "processor/after-produce",
		"processor/before-commit", "synchronizer/after-apply", "synchronizer/before-commit",
	} {
		o.start(fmt.Sprintf("AFTERIMAGE_FAILPOINTS=%s=kill@%d", step, 1+o.random.IntN(10)))
		select {
		case <-o.rig.exited():
			o.rig.kill()
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not reached in 30 s", step)
		}
	}
	o.start()
	o.rest()
}

// FAULTS 20: members come, leave and die in turn; partitions move between them.
func TestKafkaTwoMembers(t *testing.T) {
	o := newKafkaOrdeal(t)
	a, b := o.rig, o.member("b")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o.work()
	must(a.start())
	o.sleep(2*time.Second, 3*time.Second)
	must(b.start()) // takes half
	o.sleep(3*time.Second, 4*time.Second)
	must(a.stop()) // keeps its half for a session
	time.Sleep(session + time.Second)
	must(a.start()) // takes half again
	o.sleep(2*time.Second, 4*time.Second)
	b.kill()
	time.Sleep(session + time.Second)
	must(b.start())
	o.sleep(2*time.Second, 4*time.Second)
	a.kill()
	must(a.start()) // back before anybody missed it
	o.sleep(2*time.Second, 3*time.Second)
	b.kill()
	wipeState(t, b)
	must(b.start())
	o.sleep(2*time.Second, 3*time.Second)
	o.rest()
}

// FAULTS 20: a member is stopped in the middle of a create, past its session,
// and continued when another has its partitions and the object is long deleted.
func TestKafkaStoppedMember(t *testing.T) {
	o := newKafkaOrdeal(t)
	o.history.mustUndoWithin(10 * time.Second)
	a, b := o.rig, o.member("b")
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		a.kill()
		o.start(fmt.Sprintf("AFTERIMAGE_FAILPOINTS=synchronizer/before-apply=stop@%d", 3+o.random.IntN(4)))
		o.work()
		if err := eventually(40*time.Second, a.stopped); err != nil {
			t.Fatal(err)
		}
		o.sleep(500*time.Millisecond, time.Second)
		o.pause()
		o.converge(o.rig.destination.client, nil) // b has taken over
		o.workload.clear(t)
		o.converge(o.rig.destination.client, nil)
		if err := a.signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		o.converge(o.rig.destination.client, nil)
		t.Logf("round %d: %d resurrections undone", round, o.history.undos())
	}
	o.work()
	o.sleep(2*time.Second, 3*time.Second)
	// And once at any moment, under the workload.
	if err := b.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(session + 2*time.Second)
	if err := b.signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	o.sleep(2*time.Second, 3*time.Second)
	o.rest()
}

// FAULTS 13: the broker is away for longer than a session and than every buffer.
func TestKafkaBrokerDown(t *testing.T) {
	o := newKafkaOrdeal(t)
	o.work()
	o.start()
	o.sleep(3*time.Second, 4*time.Second)
	if err := broker.kafka.Kill(); err != nil {
		t.Fatal(err)
	}
	o.sleep(session+3*time.Second, session+5*time.Second)
	err := eventually(patience, func() error { return o.notReady("Stream") })
	if restart := broker.kafka.Start(t.Context()); restart != nil {
		t.Fatal(restart)
	}
	if err != nil {
		t.Error(err)
	}
	o.sleep(2*time.Second, 3*time.Second)
	o.rest()
}

// notReady is nil when Ready is false for a reason that begins so.
func (o *ordeal) notReady(reason string) error {
	s, err := o.rig.status()
	if err != nil {
		return err
	}
	for _, c := range s.Conditions {
		if c.Type == "Ready" && c.Status == metav1.ConditionFalse && strings.HasPrefix(c.Reason, reason) {
			return nil
		}
	}
	return fmt.Errorf("not the reason %s… for not being ready: %+v", reason, s.Conditions)
}

// FAULTS 14: connections break in the middle of answers, so that appends are
// made whose acknowledgement is lost.
func TestKafkaLostAcknowledgements(t *testing.T) {
	o := newKafkaOrdeal(t)
	t.Cleanup(func() { broker.proxy.DropAfter(-1) })
	o.work()
	o.start()
	o.sleep(2*time.Second, 3*time.Second)
	for range 15 {
		broker.proxy.DropAfter(200 + o.random.Int64N(4000))
		o.sleep(200*time.Millisecond, 800*time.Millisecond)
		broker.proxy.DropAfter(-1)
		o.sleep(100*time.Millisecond, 300*time.Millisecond)
		broker.proxy.Cut()
	}
	o.sleep(time.Second, 2*time.Second)
	o.rest()
}

// FAULTS 15, 21: topics are deleted while everything runs; they come back by
// themselves, with all that belongs into them.
func TestKafkaTopicDeletedWhileRunning(t *testing.T) {
	o := newKafkaOrdeal(t)
	topics := topology.TopicsFor("default", o.selector)
	adm := admin(t)
	o.work()
	o.start()
	o.sleep(3*time.Second, 4*time.Second)
	for _, topic := range []string{topics.Changes, topics.Desired} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		before, err := adm.Metadata(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := adm.DeleteTopic(ctx, topic); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := eventually(settle, func() error {
			after, err := adm.Metadata(t.Context(), topic)
			if err != nil {
				return err
			}
			if d := after.Topics[topic]; d.Err != nil || d.ID == before.Topics[topic].ID {
				return fmt.Errorf("%s is not there again (%v)", topic, d.Err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		o.sleep(time.Second, 2*time.Second)
		o.rest()
		o.work()
	}
	o.rest()
}

// FAULTS 18: more partitions would tear keys apart.
func TestKafkaPartitionsIncreased(t *testing.T) {
	o := newKafkaOrdeal(t)
	topics := topology.TopicsFor("default", o.selector)
	adm := admin(t)
	o.work()
	o.start()
	o.sleep(3*time.Second, 4*time.Second)
	o.pause()
	o.converge(o.rig.destination.client, nil)
	if _, err := adm.CreatePartitions(t.Context(), 1, topics.Changes); err != nil {
		t.Fatal(err)
	}
	check := func(message string) {
		t.Helper()
		for _, want := range []string{topics.Changes, "13 partitions, want 12"} {
			if !strings.Contains(message, want) {
				t.Errorf("the message %q does not say %q", message, want)
			}
		}
	}
	check(o.condition("PartitionCountChanged"))
	// Refused at the next start as well, before anything is done.
	o.rig.kill()
	o.start()
	if err := eventually(patience, func() error { return o.notReady("StreamPartitionCountChanged") }); err != nil {
		t.Error(err)
	}
	s, err := o.rig.status()
	if err != nil {
		t.Fatal(err)
	}
	check(s.Conditions[0].Message)
	o.untouched(o.rig.destination.client, 3*time.Second)
	o.history.check(t)
}
