package testenv

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestS3(t *testing.T) {
	t.Parallel()
	server := StartS3(t)
	server.CreateBucket("one")
	server.CreateBucket("one")
	bucket, key := "one", "a/b"
	put := func() error {
		_, err := server.Client().PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	// Authentication is on.
	response, err := http.Get("http://" + server.Endpoint + "/one/a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("an unsigned request got %s", response.Status)
	}
	// Data outlives a crash.
	server.Kill()
	if put() == nil {
		t.Error("a killed server took an object")
	}
	server.Start()
	if _, err := server.Client().HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestS3WithTLSAndProxy(t *testing.T) {
	t.Parallel()
	server := StartS3(t, WithS3TLS(), WithS3Proxy())
	if server.Endpoint != server.Proxy.Addr() || len(server.CA()) == 0 {
		t.Errorf("endpoint %s, proxy %s, %d bytes of CA", server.Endpoint, server.Proxy.Addr(), len(server.CA()))
	}
	server.CreateBucket("one")
}
