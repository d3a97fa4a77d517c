// Package npm installs packages in other languages than ours that tests hold Writ against.
package npm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/need"
)

// Patience is how long an installation, and a run of what was installed, may take.
const Patience = 120 * time.Second

// Install returns a directory of the user's cache that holds the files of a directory, package.json among them, and the
// packages that it pins. Its name is the digest of the files, so that an installation is made once and never changed.
func Install(tb testing.TB, from string, files ...string) string {
	tb.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			need.Missing(tb, "%s is not installed; test/deps/install npm installs it", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		need.Missing(tb, "no cache directory: %v", err)
	}
	hash, contents := sha256.New(), map[string][]byte{}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			tb.Fatal(err)
		}
		contents[name] = data
		hash.Write(data)
	}
	dir := filepath.Join(cache, "writ-npm", hex.EncodeToString(hash.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		need.Missing(tb, "no cache directory: %v", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	fill(tb, fresh, contents)
	if err := os.Rename(fresh, dir); err != nil {
		if _, missed := os.Stat(dir); missed != nil { // no other run was faster
			tb.Fatal(err)
		}
	}
	return dir
}

func fill(tb testing.TB, dir string, contents map[string][]byte) {
	tb.Helper()
	for name, data := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		need.Missing(tb, "installing with npm: %v\n%s", err, out)
	}
}
