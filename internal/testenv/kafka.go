package testenv

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// BrokersVariable points tests at running brokers (host:port, comma separated)
// instead of an Apache Kafka of their own. Faults need a broker of ours: tests
// that stop or configure one are skipped then.
const BrokersVariable = "AFTERIMAGE_BROKERS"

// KafkaOption changes how Kafka is started.
type KafkaOption func(*kafkaOptions)

type kafkaOptions struct {
	config testcluster.KafkaConfig
	own    bool
	proxy  bool
}

// WithSetting sets one of the broker's settings, as in server.properties.
func WithSetting(name, value string) KafkaOption {
	return func(o *kafkaOptions) {
		if o.config.Settings == nil {
			o.config.Settings = map[string]string{}
		}
		o.config.Settings[name] = value
		o.own = true
	}
}

// WithProxy places a TCP fault proxy before the broker: clients are sent through
// Kafka.Proxy.
func WithProxy() KafkaOption {
	return func(o *kafkaOptions) { o.proxy, o.own = true, true }
}

// OwnBroker asks for a broker that the test may stop, freeze and kill, so never
// for the one that AFTERIMAGE_BROKERS names.
func OwnBroker() KafkaOption { return func(o *kafkaOptions) { o.own = true } }

// Kafka is a running broker. Methods that start or stop end the test on failure.
type Kafka struct {
	// Proxy is before the broker if WithProxy was given, else nil.
	Proxy *faultproxy.TCP

	tb      testing.TB
	own     *testcluster.Kafka // nil when AFTERIMAGE_BROKERS names the brokers
	brokers []string
}

// StartKafka starts an Apache Kafka that ends with the test, or takes the brokers
// that AFTERIMAGE_BROKERS names. Without mvn or java the test is skipped, but
// under CI=true it fails.
func StartKafka(tb testing.TB, options ...KafkaOption) *Kafka {
	tb.Helper()
	needsServers(tb)
	var o kafkaOptions
	for _, option := range options {
		option(&o)
	}
	if brokers := os.Getenv(BrokersVariable); brokers != "" {
		if !o.own {
			return &Kafka{tb: tb, brokers: strings.Split(brokers, ",")}
		}
		tb.Logf("this test needs a broker of its own: %s is not used", BrokersVariable)
	}
	k := &Kafka{tb: tb}
	if o.proxy {
		addresses, release, err := testcluster.Ports(1)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(release)
		o.config.Listen = addresses[0]
		k.Proxy = faultproxy.StartTCP(tb, addresses[0])
		o.config.Advertised = k.Proxy.Addr()
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	own, err := testcluster.StartKafka(ctx, o.config)
	if errors.Is(err, testcluster.ErrNoJava) && os.Getenv("CI") != "true" {
		tb.Skipf("no Apache Kafka: %v (install maven and a Java 17, or set %s)", err, BrokersVariable)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := own.Close(); err != nil {
			tb.Errorf("ending Kafka: %v", err)
		}
	})
	k.own, k.brokers = own, []string{own.Addr()}
	return k
}

// Brokers are the addresses for clients.
func (k *Kafka) Brokers() []string { return k.brokers }

// Addr is the first of them.
func (k *Kafka) Addr() string { return k.brokers[0] }

func (k *Kafka) do(f func(*testcluster.Kafka) error) {
	k.tb.Helper()
	if k.own == nil {
		k.tb.Fatal("a test that stops or freezes its broker must ask for OwnBroker")
	}
	if err := f(k.own); err != nil {
		k.tb.Fatal(err)
	}
}

// Stop ends the broker in an orderly way; its data stays.
func (k *Kafka) Stop() { k.tb.Helper(); k.do((*testcluster.Kafka).Stop) }

// Kill ends the broker as a crash would; its data stays.
func (k *Kafka) Kill() { k.tb.Helper(); k.do((*testcluster.Kafka).Kill) }

// Start starts it again on the same data and port.
func (k *Kafka) Start() {
	k.tb.Helper()
	k.do(func(own *testcluster.Kafka) error { return own.Start(context.Background()) })
}

// Freeze stops the broker in its tracks; Thaw lets it go on.
func (k *Kafka) Freeze() { k.tb.Helper(); k.do((*testcluster.Kafka).Freeze) }

// Thaw lets a frozen broker go on.
func (k *Kafka) Thaw() { k.tb.Helper(); k.do((*testcluster.Kafka).Thaw) }
