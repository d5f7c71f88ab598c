package testenv

import (
	"context"
	"testing"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
)

// S3Option changes how an S3 server is started.
type S3Option func(*s3Options)

type s3Options struct {
	config testcluster.S3Config
	proxy  bool
}

// WithS3TLS serves https with a certificate of a new authority, S3.CA.
func WithS3TLS() S3Option { return func(o *s3Options) { o.config.TLS = true } }

// WithS3Region sets the region that the server checks signatures against.
// Default us-east-1.
func WithS3Region(region string) S3Option {
	return func(o *s3Options) { o.config.Region = region }
}

// WithS3Proxy places a TCP fault proxy before the server: S3.Endpoint is then
// that of S3.Proxy.
func WithS3Proxy() S3Option { return func(o *s3Options) { o.proxy = true } }

// S3 is a running S3 server that checks signatures. Methods that start or stop
// end the test on failure.
type S3 struct {
	*testcluster.S3
	// Endpoint is host and port, as in spec.generic.endpoint of a Bucket.
	Endpoint string
	// AccessKey and SecretKey are the credentials of its one account.
	AccessKey, SecretKey string
	// Proxy is before the server if WithS3Proxy was given, else nil.
	Proxy *faultproxy.TCP

	tb testing.TB
}

// StartS3 starts an S3 server that ends with the test; the server is built first
// where it must be, about 2 minutes.
func StartS3(tb testing.TB, options ...S3Option) *S3 {
	tb.Helper()
	needsServers(tb)
	var o s3Options
	for _, option := range options {
		option(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	own, err := testcluster.StartS3(ctx, o.config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := own.Close(); err != nil {
			tb.Errorf("ending the S3 server: %v", err)
		}
	})
	s := &S3{S3: own, Endpoint: own.Addr(), AccessKey: testcluster.S3AccessKey, SecretKey: testcluster.S3SecretKey, tb: tb}
	if o.proxy {
		s.Proxy = faultproxy.StartTCP(tb, own.Addr())
		s.Endpoint = s.Proxy.Addr()
	}
	return s
}

func (s *S3) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

// CreateBucket makes an empty bucket; one that exists stays as it is.
func (s *S3) CreateBucket(name string) {
	s.tb.Helper()
	s.must(s.S3.CreateBucket(context.Background(), name))
}

// Stop ends the server in an orderly way; its data stays.
func (s *S3) Stop() { s.tb.Helper(); s.must(s.S3.Stop()) }

// Kill ends the server as a crash would; its data stays.
func (s *S3) Kill() { s.tb.Helper(); s.must(s.S3.Kill()) }

// Start starts it again on the same data and port.
func (s *S3) Start() { s.tb.Helper(); s.must(s.S3.Start(context.Background())) }
