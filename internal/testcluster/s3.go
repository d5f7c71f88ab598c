package testcluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/afterimage-dr/afterimage/internal/testcert"
)

// s3Script finds or builds the S3 server.
const s3Script = "bench/tools/s3/s3-assets.sh"

// S3Config is what an S3 server is started with. The zero value is fine.
type S3Config struct {
	// Dir holds buckets, their metadata and the log. Default: a new temporary
	// folder, removed by Close; a folder given here is kept.
	Dir string
	// Binary is the server. Default: what the script finds or builds.
	Binary string
	// Region the server checks signatures against. Default us-east-1.
	Region string
	// TLS serves https with a certificate of a new authority, see S3.CA.
	TLS bool
	// Progress receives what is being built. Default: standard error.
	Progress io.Writer
}

// The credentials of the one account of every S3 server.
const (
	S3AccessKey = "test-access-key"
	S3SecretKey = "test-secret-key"
)

// S3 is an S3 server that checks signatures and keeps objects as files. Its
// methods are safe for concurrent use.
type S3 struct {
	config  S3Config
	ownsDir bool
	port    *port
	process *process
	ca      []byte
}

var s3Assets struct {
	sync.Mutex
	binary string
}

// StartS3 starts a server and returns once it answers. ctx bounds the start only;
// end it with Close. Well under a second, once built.
func StartS3(ctx context.Context, config S3Config) (_ *S3, err error) {
	s := &S3{config: config}
	if s.config.Binary == "" {
		if s.config.Binary, err = s3Binary(ctx, config.Progress); err != nil {
			return nil, err
		}
	}
	if s.config.Region == "" {
		s.config.Region = "us-east-1"
	}
	if s.config.Dir == "" {
		if s.config.Dir, err = os.MkdirTemp("", "afterimage-s3-"); err != nil {
			return nil, fmt.Errorf("making the S3 server's folder: %w", err)
		}
		s.ownsDir = true
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.port, err = takePort(); err != nil {
		return nil, err
	}
	if err = s.prepare(); err != nil {
		return nil, err
	}
	if err = s.Start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func s3Binary(ctx context.Context, progress io.Writer) (string, error) {
	s3Assets.Lock()
	defer s3Assets.Unlock()
	if s3Assets.binary != "" {
		return s3Assets.binary, nil
	}
	root, err := repositoryRoot()
	if err != nil {
		return "", fmt.Errorf("looking for the S3 server: %w", err)
	}
	if progress == nil {
		progress = os.Stderr
	}
	var stdout bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(root, s3Script))
	cmd.Stdout, cmd.Stderr = &stdout, progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w", s3Script, err)
	}
	binary := filepath.Join(lastLine(stdout.String()), "versitygw")
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf("the S3 server is missing: %w", err)
	}
	s3Assets.binary = binary
	return binary, nil
}

// prepare makes the folders and, for TLS, the certificate.
func (s *S3) prepare() error {
	for _, folder := range []string{"buckets", "metadata"} {
		if err := os.MkdirAll(s.path(folder), 0o700); err != nil {
			return fmt.Errorf("making a folder of the S3 server: %w", err)
		}
	}
	if !s.config.TLS {
		return nil
	}
	authority, err := testcert.NewAuthority("afterimage test S3")
	if err != nil {
		return err
	}
	pair, err := authority.Serve()
	if err != nil {
		return err
	}
	s.ca = authority.PEM
	for name, content := range map[string][]byte{"server.crt": pair.Certificate, "server.key": pair.Key} {
		if err := os.WriteFile(s.path(name), content, 0o600); err != nil {
			return fmt.Errorf("writing the S3 server's certificate: %w", err)
		}
	}
	return nil
}

func (s *S3) path(parts ...string) string {
	return filepath.Join(append([]string{s.config.Dir}, parts...)...)
}

// Start starts the server again on the same data and port, and returns once it
// answers.
func (s *S3) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if s.process == nil {
		s.process = &process{name: "versitygw", logFile: s.path("versitygw.log")}
	}
	args := []string{"--port", s.Addr(), "--region", s.config.Region, "--keep-alive", "--quiet", "--health", s3Health}
	if s.config.TLS {
		args = append(args, "--cert", s.path("server.crt"), "--key", s.path("server.key"))
	}
	args = append(args, "posix", "--disableotmp")
	if !hasExtendedAttributes(s.path("buckets")) {
		// Metadata in files of their own; a write is then not atomic to readers.
		args = append(args, "--sidecar", s.path("metadata"))
	}
	args = append(args, s.path("buckets"))
	environment := []string{
		"HOME=" + s.config.Dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(),
		"ROOT_ACCESS_KEY_ID=" + S3AccessKey, "ROOT_SECRET_ACCESS_KEY=" + S3SecretKey,
	}
	if err := s.process.start(environment, s.config.Binary, args...); err != nil {
		return err
	}
	return s.process.await(ctx, s.healthy)
}

// s3Health cannot be the name of a bucket.
const s3Health = "/_health"

func (s *S3) healthy(ctx context.Context) error {
	if s.config.TLS {
		// The listener opens with everything behind it ready.
		connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.Addr())
		if err != nil {
			return err
		}
		return connection.Close()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr()+s3Health, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", response.Status)
	}
	return nil
}

// Kill ends the server as a crash would.
func (s *S3) Kill() error { return s.process.kill() }

// Stop asks the server to end and waits, at most 20 s; then it is killed.
func (s *S3) Stop() error { return s.process.stop(20 * time.Second) }

// Close ends the server at once and removes its data unless S3Config.Dir was
// given.
func (s *S3) Close() error {
	var errs []error
	if s.process != nil {
		errs = append(errs, s.process.kill())
	}
	s.port.release()
	if s.ownsDir {
		errs = append(errs, os.RemoveAll(s.config.Dir))
	}
	return errors.Join(errs...)
}

// Addr is host and port of the server, without a scheme.
func (s *S3) Addr() string { return s.port.address() }

// CA is the certificate to trust, in PEM; nil without TLS.
func (s *S3) CA() []byte { return s.ca }

// CreateBucket makes a bucket, empty and private. It is no error if it exists.
func (s *S3) CreateBucket(ctx context.Context, name string) error {
	if _, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		var owned *types.BucketAlreadyOwnedByYou
		if !errors.As(err, &owned) {
			return fmt.Errorf("creating bucket %s: %w", name, err)
		}
	}
	return nil
}

// Client is a plain client of the server, for what only tests do: make buckets
// and put things into them that Afterimage would not.
func (s *S3) Client() *s3.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}}
	transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(s.ca)
	scheme := "http://"
	if s.config.TLS {
		scheme = "https://"
	}
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(scheme + s.Addr()),
		Region:       s.config.Region,
		UsePathStyle: true,
		HTTPClient:   &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: S3AccessKey, SecretAccessKey: S3SecretKey}, nil
		}),
	})
}

// File is where the content of an object lies, for tests that damage it.
func (s *S3) File(bucket, path string) string {
	return s.path("buckets", bucket, filepath.FromSlash(path))
}
