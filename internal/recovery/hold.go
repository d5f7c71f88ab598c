package recovery

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/afterimage-dr/afterimage/consumers/restorer"
)

// ErrRunning: a recovery of the same LiveSynchronization runs with the same data
// directory.
var ErrRunning = errors.New("a recovery of this LiveSynchronization is running with this data directory")

// hold names this process at the fence. With a data directory that is there, the
// name is that of host and directory, so that a recovery which was killed goes on at
// once, and a lock keeps a second one away; the kernel frees it with the process.
// Else, and for what does not hold the fence, it is a name of its own.
func (q *Request) hold() (name string, free func(), err error) {
	host, _ := os.Hostname()
	unique := make([]byte, 6)
	_, _ = rand.Read(unique) // never fails
	name, free = "recover-"+host+"-"+hex.EncodeToString(unique), func() {}
	if _, missing := os.Stat(q.DataDir); q.DataDir == "" || missing != nil || q.DryRun || q.mode != "" && q.mode != restorer.Recover {
		return name, free, nil
	}
	id := sha256.Sum256([]byte(q.Target.LiveSynchronization.String()))
	path := filepath.Join(q.DataDir, "recover-"+hex.EncodeToString(id[:8])+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return "", nil, fmt.Errorf("%w (%s)", ErrRunning, q.DataDir)
		}
		return "", nil, fmt.Errorf("locking %s: %w", path, err)
	}
	dir := sha256.Sum256([]byte(q.DataDir))
	return "recover-" + host + "-" + hex.EncodeToString(dir[:6]), func() { _ = f.Close() }, nil
}
