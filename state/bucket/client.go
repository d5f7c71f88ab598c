package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	defaultRegion  = "us-east-1"
	dialTimeout    = 10 * time.Second
	maxConcurrency = 64
)

// host of an endpoint, in lower case and without its port.
func host(endpoint string) string {
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		endpoint = h
	}
	return strings.ToLower(endpoint)
}

func isAmazon(endpoint string) bool {
	h := host(endpoint)
	return strings.HasSuffix(h, ".amazonaws.com") || strings.HasSuffix(h, ".amazonaws.com.cn")
}

func isGoogle(endpoint string) bool {
	h := host(endpoint)
	return h == "storage.googleapis.com" || strings.HasSuffix(h, ".storage.googleapis.com")
}

// regionOf an endpoint: that of s3.<region>.amazonaws.com, else us-east-1.
func regionOf(endpoint string) string {
	if !isAmazon(endpoint) {
		return defaultRegion
	}
	rest, _, _ := strings.Cut(host(endpoint), ".amazonaws.com")
	parts := strings.Split(rest, ".")
	if region := parts[len(parts)-1]; len(parts) > 1 && strings.HasPrefix(parts[0], "s3") && region != "dualstack" {
		return region
	}
	return defaultRegion
}

func newClient(o Options) (*s3.Client, error) {
	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if o.UseSSL {
		scheme = "https://"
	}
	pathStyle := !isAmazon(o.Endpoint)
	if o.PathStyle != nil {
		pathStyle = *o.PathStyle
	}
	credentials := aws.Credentials{AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey, Source: "afterimage"}
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(scheme + o.Endpoint),
		Region:       o.Region,
		UsePathStyle: pathStyle,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return credentials, nil
		}),
		HTTPClient: &http.Client{
			Transport: transport,
			// A redirect would be followed with the signature of another host;
			// what S3 means by one is that the region is wrong.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		// Retries are ours (call.go): all calls share what the server asks for.
		Retryer: aws.NopRetryer{},
		// Generic servers know nothing of checksums in trailers.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		APIOptions:                 []func(*middleware.Stack) error{leaveAcceptEncodingUnsigned},
		AppID:                      "afterimage",
	}), nil
}

func newTransport(o Options) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.InsecureSkipVerify}
	if len(o.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("the CA holds no certificate in PEM form")
		}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		MaxIdleConns:          maxConcurrency,
		MaxIdleConnsPerHost:   maxConcurrency,
		IdleConnTimeout:       time.Minute,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
	}, nil
}

// acceptEncoding travels from before the signing to after it.
type acceptEncoding struct{}

// leaveAcceptEncodingUnsigned keeps the header out of the signature: Google
// changes it on the way, and then answers 403 SignatureDoesNotMatch. The header
// itself is sent, so that nobody compresses what is compared byte by byte.
func leaveAcceptEncodingUnsigned(stack *middleware.Stack) error {
	const header = "Accept-Encoding"
	takeOut := middleware.FinalizeMiddlewareFunc("TakeOutAcceptEncoding", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		request, ok := in.Request.(*smithyhttp.Request)
		if !ok {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("unexpected request %T", in.Request)
		}
		ctx = middleware.WithStackValue(ctx, acceptEncoding{}, request.Header.Get(header))
		request.Header.Del(header)
		return next.HandleFinalize(ctx, in)
	})
	putBack := middleware.FinalizeMiddlewareFunc("PutBackAcceptEncoding", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		request, ok := in.Request.(*smithyhttp.Request)
		if !ok {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("unexpected request %T", in.Request)
		}
		if value, _ := middleware.GetStackValue(ctx, acceptEncoding{}).(string); value != "" {
			request.Header.Set(header, value)
		}
		return next.HandleFinalize(ctx, in)
	})
	if err := stack.Finalize.Insert(takeOut, "Signing", middleware.Before); err != nil {
		return err
	}
	return stack.Finalize.Insert(putBack, "Signing", middleware.After)
}
