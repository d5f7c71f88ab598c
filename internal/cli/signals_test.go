package cli

import (
	"syscall"
	"testing"
	"time"
)

// Whatever asks for the end, it ends in order: the demo then leaves nothing behind.
func TestSignalsEndInOrder(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "terminal closed": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := signals(t.Context())
			defer cancel()
			if err := syscall.Kill(syscall.Getpid(), s); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the context did not end")
			}
		})
	}
}
