package cli

import (
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// Whatever asks for the end, it ends in order: the demo then leaves nothing behind.
func TestSignalsEndInOrder(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "terminal closed": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			ignored := signal.Ignored(s) // under nohup a closed terminal ends nothing
			ctx, cancel := signals(t.Context())
			defer cancel()
			if err := syscall.Kill(syscall.Getpid(), s); err != nil {
				t.Fatal(err)
			}
			patience := 10 * time.Second
			if ignored {
				patience = 200 * time.Millisecond
			}
			select {
			case <-ctx.Done():
				if ignored {
					t.Fatal("the context ended by a signal that nohup ignores")
				}
			case <-time.After(patience):
				if !ignored {
					t.Fatal("the context did not end")
				}
			}
		})
	}
}
