// Command afterimage keeps a live standby of a Kubernetes cluster.
package main

import (
	"context"
	"os"

	"github.com/afterimage-dr/afterimage/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
