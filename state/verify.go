package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// verify reads every table that the database counts as its own and checks it.
// Badger's own check is of no use here: a table with a wrong checksum it leaves
// out without an error (we would forget keys and keep the position), and a
// table that was cut makes it panic in a goroutine of its own.
func verify(path string, opts badger.Options) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("badger: %v", r)
		}
	}()
	f, err := os.Open(filepath.Join(path, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		if tables, _ := filepath.Glob(filepath.Join(path, "*.sst")); len(tables) > 0 {
			return fmt.Errorf("%d tables, but no %s", len(tables), badger.ManifestFilename)
		}
		return nil // new
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	m, _, err := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
	if err != nil {
		return fmt.Errorf("%s: %w", badger.ManifestFilename, err)
	}
	for id, t := range m.Tables {
		if err := verifyTable(table.NewFilename(id, path), t.Compression); err != nil {
			return fmt.Errorf("table %d: %w", id, err)
		}
	}
	return nil
}

func verifyTable(name string, c options.CompressionType) error {
	mf, err := z.OpenMmapFile(name, os.O_RDONLY, 0)
	if errors.Is(err, z.NewFile) {
		return errors.New("empty")
	}
	if err != nil {
		return err
	}
	t, err := table.OpenTable(mf, table.Options{ReadOnly: true, ChkMode: options.OnTableRead, Compression: c, BlockSize: 4 << 10})
	if err != nil {
		return err
	}
	return t.Close(-1)
}

const (
	attemptsFile = "opening"
	maxAttempts  = 2
)

// attempts counts the openings that did not end: the process died in them. A
// database that kills whoever opens it is damaged, however it does that.
type attempts struct{ path string }

func (a attempts) begin() (tooMany bool, err error) {
	b, err := os.ReadFile(a.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b))) // anything else counts as none
	return n >= maxAttempts, os.WriteFile(a.path, []byte(strconv.Itoa(n+1)), 0o600)
}

func (a attempts) end() { _ = os.Remove(a.path) } // at worst a rebuild too many
