package testenv_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/afterimage-dr/afterimage/internal/testenv"
)

func kafkaClient(t *testing.T, k *testenv.Kafka) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.ConsumeTopics("kept"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func produce(ctx context.Context, client *kgo.Client, value string) error {
	return client.ProduceSync(ctx, &kgo.Record{Topic: "kept", Key: []byte("key"), Value: []byte(value)}).FirstErr()
}

// Every way to end the broker keeps what it acknowledged, and clients go on; the
// proxy is on the way of all of it.
func TestKafkaEndsAndGoesOn(t *testing.T) {
	k := testenv.StartKafka(t, testenv.WithProxy(), testenv.WithSetting("log.cleaner.backoff.ms", "100"))
	client := kafkaClient(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "kept"); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name       string
		fault, end func()
	}{
		{"nothing", func() {}, func() {}},
		{"stop", k.Stop, k.Start},
		{"kill", k.Kill, k.Start},
		{"freeze", k.Freeze, func() { time.Sleep(time.Second); k.Thaw() }},
		{"cut", k.Proxy.Cut, func() {}},
		{"hang", func() { k.Proxy.Hang(true) }, func() { time.Sleep(time.Second); k.Proxy.Hang(false) }},
	}
	for _, step := range steps {
		step.fault()
		step.end()
		if err := produce(ctx, client, step.name); err != nil {
			t.Fatalf("producing after %s: %v", step.name, err)
		}
	}
	var got []string
	for len(got) < len(steps) {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("only %v came back: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	for i, step := range steps {
		if got[i] != step.name {
			t.Errorf("record %d is %q, want %q", i, got[i], step.name)
		}
	}
	configs, err := admin.DescribeBrokerConfigs(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	on, err := configs.On("1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range on.Configs {
		if c.Key == "log.cleaner.backoff.ms" && c.MaybeValue() != "100" {
			t.Errorf("log.cleaner.backoff.ms is %s, want the 100 asked for", c.MaybeValue())
		}
	}
	// The client knows the broker under the proxy's address only.
	p, err := admin.BrokerMetadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Brokers {
		if got := k.Proxy.Addr(); got != address(b.Host, b.Port) {
			t.Errorf("the broker advertises %s, want the proxy %s", address(b.Host, b.Port), got)
		}
	}
}

func address(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
