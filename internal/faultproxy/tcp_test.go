package faultproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/afterimage-dr/afterimage/internal/faultproxy"
)

// echo answers every byte with itself.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, p *faultproxy.TCP) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends a word and expects it back within the time given.
func exchange(c net.Conn, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != "hello" {
		return errors.New("got " + string(got))
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTCPPassesAndHalfCloses(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	c := dial(t, p)
	data := bytes.Repeat([]byte("0123456789"), 200_000)
	go func() {
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("got %d bytes back, want the %d sent", len(got), len(data))
	}
}

func TestTCPCut(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	c := dial(t, p)
	must(t, exchange(c, 5*time.Second))
	if got := p.Connections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
	p.Cut()
	if err := exchange(c, 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the cut: %v, want the connection broken", err)
	}
	must(t, exchange(dial(t, p), 5*time.Second))
}

func TestTCPRefuse(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	open := dial(t, p)
	must(t, exchange(open, 5*time.Second))
	must(t, p.Refuse(true))
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		_ = c.Close()
		t.Error("a connection was taken while refusing")
	}
	must(t, exchange(open, 5*time.Second))
	must(t, p.Refuse(false))
	must(t, exchange(dial(t, p), 5*time.Second))
}

func TestTCPHang(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	c := dial(t, p)
	p.Hang(true)
	if err := exchange(c, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("while hanging: %v, want silence until the deadline", err)
	}
	fresh := dial(t, p)
	if err := exchange(fresh, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a new connection while hanging: %v, want silence", err)
	}
	p.Hang(false)
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	got := make([]byte, 5)
	_, err := io.ReadFull(c, got)
	must(t, err)
	if string(got) != "hello" {
		t.Errorf("got %q after the hang, want what was sent during it", got)
	}
}

func TestTCPDelay(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	c := dial(t, p)
	p.Delay(100 * time.Millisecond)
	started := time.Now()
	must(t, exchange(c, 5*time.Second))
	if took := time.Since(started); took < 200*time.Millisecond {
		t.Errorf("the round trip took %s, want at least 200ms", took)
	}
	p.Delay(time.Hour)
	go p.Delay(0) // shortening a delay frees what already waits
	must(t, exchange(c, 5*time.Second))
}

// Bytes in many small writes are delayed once, however many are in flight.
func TestTCPDelaySlowsNoPipeline(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	c := dial(t, p)
	p.Delay(time.Second)
	const writes = 400
	started := time.Now()
	go func() {
		for range writes {
			_, _ = c.Write([]byte("x"))
			time.Sleep(500 * time.Microsecond) // so that the proxy reads one by one
		}
	}()
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err := io.ReadFull(c, make([]byte, writes))
	must(t, err)
	// A third delay would mean that some were taken only when others had left.
	if took := time.Since(started); took < 2*time.Second || took >= 3*time.Second {
		t.Errorf("%d bytes one by one took %s, want the round trip of 2s and the time to write them", writes, took)
	}
}

func TestTCPDropAfter(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	c := dial(t, p)
	must(t, exchange(c, 5*time.Second))
	p.DropAfter(3)
	_, err := c.Write([]byte("hello"))
	must(t, err)
	got, err := io.ReadAll(c)
	if string(got) != "hel" {
		t.Errorf("got %q (%v), want the first three bytes and then the end", got, err)
	}
	p.DropAfter(-1)
	must(t, exchange(dial(t, p), 5*time.Second))
}

func TestTCPBandwidth(t *testing.T) {
	p := faultproxy.StartTCP(t, echo(t))
	p.Bandwidth(100_000)
	c := dial(t, p)
	go func() { _, _ = c.Write(make([]byte, 30_000)) }()
	started := time.Now()
	_, err := io.ReadFull(c, make([]byte, 30_000))
	must(t, err)
	if took := time.Since(started); took < 200*time.Millisecond {
		t.Errorf("30,000 bytes at 100,000 a second took %s", took)
	}
}

func TestTCPCloseEndsEverything(t *testing.T) {
	p, err := faultproxy.NewTCP(echo(t))
	must(t, err)
	c := dial(t, p)
	must(t, exchange(c, 5*time.Second))
	p.Hang(true)
	must(t, p.Close())
	if err := exchange(c, 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after Close: %v, want the connection broken", err)
	}
	if err := p.Refuse(false); err == nil {
		t.Error("a closed proxy listens again")
	}
}
