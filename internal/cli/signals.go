package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// exitInterrupted is 128 + SIGINT, as shells have it.
const exitInterrupted = 130

// signals ends the context on the first SIGINT or SIGTERM, or when the terminal
// is closed (unless nohup says otherwise), and the process on the second, for
// whoever does not want to wait.
func signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(ch, syscall.SIGHUP)
	}
	over := make(chan struct{})
	go func() {
		for range 2 {
			select {
			case <-ch:
				if ctx.Err() != nil {
					os.Exit(exitInterrupted)
				}
				cancel()
			case <-over:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		cancel()
		close(over)
	}
}
