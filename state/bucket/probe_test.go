package bucket

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/testcert"
	"github.com/afterimage-dr/afterimage/internal/testcluster"
	"github.com/afterimage-dr/afterimage/internal/testenv"
)

// check that every kind of call fails for one reason and with a text that a user
// can act on.
func check(t *testing.T, b *Bucket, reason string, words ...string) {
	t.Helper()
	ctx := context.Background()
	o := original("a", 1)
	words = append(words, b.options.Name, b.options.Endpoint)
	_, errPut := b.Put(ctx, o)
	_, errCreate := b.PutKnown(ctx, o, "")
	_, errGet := b.Get(ctx, o.Path)
	for call, err := range map[string]error{
		"Probe": b.Probe(ctx), "Put": errPut, "PutKnown": errCreate, "Get": errGet,
		"Delete": b.Delete(ctx, o.Path, o.Version),
		"List":   b.List(ctx, "dr/pre", func(Entry) error { return nil }),
	} {
		if err == nil {
			t.Errorf("%s: no error, want %s", call, reason)
			continue
		}
		if got := Reason(err); got != reason {
			t.Errorf("%s: %s, want %s: %v", call, got, reason, err)
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s does not say %q: %v", call, word, err)
			}
		}
		for _, secret := range []string{b.options.SecretAccessKey, b.options.AccessKeyID} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s tells %q: %v", call, secret, err)
			}
		}
	}
}

// impatient makes a client's pauses none.
func impatient(b *Bucket) *Bucket {
	b.timing.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return b
}

func TestReasonsOfARealServer(t *testing.T) {
	t.Parallel()
	server, b := onServer(t)
	secure, overTLS := onServer(t, testenv.WithS3TLS())
	other, err := testcert.NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	closed, release, err := testcluster.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for name, c := range map[string]struct {
		from   *Bucket
		change func(*Options)
		reason string
		words  []string
	}{
		"wrong secret":      {b, func(o *Options) { o.SecretAccessKey = "not-the-secret" }, Unauthorized, []string{"secretAccessKey", "SignatureDoesNotMatch"}},
		"wrong key":         {b, func(o *Options) { o.AccessKeyID = "not-the-key" }, Unauthorized, []string{"accessKeyID"}},
		"wrong region":      {b, func(o *Options) { o.Region = "eu-west-1" }, WrongRegion, []string{"eu-west-1", "us-east-1"}},
		"missing bucket":    {b, func(o *Options) { o.Name = "nowhere" }, NoSuchBucket, []string{"does not exist"}},
		"nobody listens":    {b, func(o *Options) { o.Endpoint = closed[0] }, Unreachable, []string{"refused"}},
		"https to http":     {b, func(o *Options) { o.UseSSL = true }, TLSFailed, []string{"useSSL"}},
		"unknown authority": {overTLS, func(o *Options) { o.CA = nil }, TLSFailed, []string{"certificate"}},
		"another authority": {overTLS, func(o *Options) { o.CA = other.PEM }, TLSFailed, []string{"certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.from.options
			c.change(&o)
			check(t, impatient(open(t, o)), c.reason, c.words...)
		})
	}
	if got := []string{server.Endpoint, secure.Endpoint}; got[0] == got[1] {
		t.Error("two servers, one address")
	}
	t.Run("stopped", func(t *testing.T) {
		server.Stop()
		check(t, impatient(b), Unreachable)
		server.Start()
		if err := b.Probe(context.Background()); err != nil {
			t.Errorf("started again: %v", err)
		}
	})
}

// TestReasonsOfOtherServers has the answers of servers that cannot be run here.
func TestReasonsOfOtherServers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header map[string]string
		code   string
		text   string
		reason string
		words  []string
	}{
		"Amazon, bucket of another region":     {301, map[string]string{"X-Amz-Bucket-Region": "eu-central-1"}, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.", WrongRegion, []string{"not us-east-1 but eu-central-1"}},
		"Amazon, signed for another region":    {400, nil, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'", WrongRegion, []string{"expecting 'eu-central-1'"}},
		"a key that is no key":                 {400, nil, "AuthorizationHeaderMalformed", "The authorization header is malformed; a non-empty Access Key (AKID) must be provided in the credential.", Unauthorized, nil},
		"Amazon, no permission":                {403, nil, "AccessDenied", "User: arn:aws:iam::1:user/x is not authorized to perform: s3:ListBucket", Forbidden, []string{"s3:ListBucket", "must be allowed"}},
		"Amazon, expired":                      {400, nil, "ExpiredToken", "The provided token has expired.", Unauthorized, nil},
		"the clock":                            {403, nil, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", Unauthorized, []string{"clock"}},
		"a server that quotes the credentials": {403, nil, "SignatureDoesNotMatch", "key access-key-id, secret secret-access-key", Unauthorized, []string{"<redacted>"}},
		"patience":                             {503, nil, "SlowDown", "Please reduce your request rate.", SlowDown, nil},
		"patience, in other words":             {429, nil, "TooManyRequests", "", SlowDown, nil},
		"out of order":                         {500, nil, "InternalError", "We encountered an internal error. Please try again.", Failing, []string{"Internal"}},
		"a proxy without a word":               {502, nil, "", "", Failing, []string{"Bad Gateway"}},
		"a proxy that refuses":                 {403, nil, "", "", Forbidden, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				if c.code != "" && r.Method != http.MethodHead {
					_, _ = w.Write([]byte("<Error><Code>" + c.code + "</Code><Message>" + strings.ReplaceAll(c.text, "'", "&#39;") + "</Message></Error>"))
				}
			}))
			defer server.Close()
			b := impatient(fake(t, server))
			check(t, b, c.reason, c.words...)
		})
	}
}

func fake(t *testing.T, server *httptest.Server) *Bucket {
	t.Helper()
	return open(t, Options{Endpoint: strings.TrimPrefix(server.URL, "http://"), Name: testBucket, AccessKeyID: "access-key-id", SecretAccessKey: "secret-access-key"})
}

func TestBadOptions(t *testing.T) {
	good := Options{Endpoint: "h", Name: "n", AccessKeyID: "access-key-id", SecretAccessKey: "secret-access-key"}
	for want, change := range map[string]func(*Options){
		"endpoint is empty":        func(o *Options) { o.Endpoint = "" },
		"bucket name is empty":     func(o *Options) { o.Name = " " },
		"accessKeyID is empty":     func(o *Options) { o.AccessKeyID = "" },
		"secretAccessKey is empty": func(o *Options) { o.SecretAccessKey = "\n" },
		"no certificate":           func(o *Options) { o.CA = []byte("nonsense") },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestReasonOfOtherErrors(t *testing.T) {
	for _, err := range []error{nil, errors.New("x"), ErrDamaged} {
		if got := Reason(err); got != Failing {
			t.Errorf("Reason(%v) = %s", err, got)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := open(t, Options{Endpoint: "127.0.0.1:1", Name: "n", AccessKeyID: "k", SecretAccessKey: "s"})
	if err := b.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
