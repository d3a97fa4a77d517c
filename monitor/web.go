package monitor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/governed-execution/writ/receipt"
)

// Limits of what is read.
const (
	maxCheckpoint = 64 << 10
	maxTile       = receipt.TileWidth * 32
	patience      = 20 * time.Second // for one answer
)

// Web asks logs over HTTP. What they say is verified by signatures and hashes, so that TLS only keeps secret who asks.
type Web struct {
	Client *http.Client // default: one that follows no redirection
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

func (w Web) checkpoint(ctx context.Context, log string) ([]byte, error) {
	return w.get(ctx, strings.TrimSuffix(log, "/")+"/checkpoint", maxCheckpoint)
}

func (w Web) tile(ctx context.Context, log string, t receipt.Tile) ([]byte, error) {
	return w.get(ctx, strings.TrimSuffix(log, "/")+"/"+t.Path(), maxTile)
}

func (w Web) get(ctx context.Context, url string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("asking log: %w", err)
	}
	client := w.Client
	if client == nil {
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking log: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking log: %s: status %d", url, resp.StatusCode)
	}
	return readLimited(resp.Body, limit)
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading answer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("reading answer: more than %d bytes", limit)
	}
	return data, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoint: %w", err)
	}
	defer f.Close()
	return readLimited(f, maxCheckpoint)
}
