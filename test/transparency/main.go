package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 3 && args[0] == "fsck":
		err = check(ctx, args[1], args[2], stdout)
	case len(args) == 4 && args[0] == "witness":
		err = serve(ctx, args[1], args[2], args[3], stdin, stdout)
	default:
		err = errors.New("usage: transparency fsck URL VKEY | transparency witness NAME ORIGIN VKEY")
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// check reads the whole log with Tessera's fsck: every tile, every bundle, every leaf hash and the root.
func check(ctx context.Context, address, vkey string, stdout io.Writer) error {
	verifier, err := fnote.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("reading verifier key: %w", err)
	}
	root, err := url.Parse(strings.TrimSuffix(address, "/") + "/")
	if err != nil {
		return fmt.Errorf("reading URL: %w", err)
	}
	fetcher, err := client.NewHTTPFetcher(root, http.DefaultClient)
	if err != nil {
		return fmt.Errorf("making fetcher: %w", err)
	}
	if err := fsck.New(verifier.Name(), verifier, fetcher, leafHashes, fsck.Opts{N: 2}).Check(ctx); err != nil {
		return fmt.Errorf("checking log: %w", err)
	}
	checkpoint, _, _, err := client.FetchCheckpoint(ctx, fetcher.ReadCheckpoint, verifier, verifier.Name())
	if err != nil {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	fmt.Fprintf(stdout, "%d entries under %x\n", checkpoint.Size, checkpoint.Hash)
	return nil
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, e := range b.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return hashes, nil
}

// serve runs a witness of one log until its input ends.
func serve(ctx context.Context, name, origin, vkey string, stdin io.Reader, stdout io.Writer) error {
	log, err := fnote.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("reading verifier key: %w", err)
	}
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return fmt.Errorf("making key: %w", err)
	}
	signer, err := fnote.NewSignerForCosignatureV1(secret)
	if err != nil {
		return fmt.Errorf("making signer: %w", err)
	}
	if public, err = fnote.VKeyToCosignatureV1(public); err != nil {
		return fmt.Errorf("naming key: %w", err)
	}
	w, err := witness.New(ctx, witness.Opts{Persistence: inmemory.New(), Signers: []note.Signer{signer},
		VerifierForLog: func(_ context.Context, o string) (note.Verifier, bool, error) { return log, o == origin, nil }})
	if err != nil {
		return fmt.Errorf("making witness: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(w).AddCheckpoint)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	fmt.Fprintf(stdout, "http://%s/\n%s\n", listener.Addr(), public)
	_, _ = io.Copy(io.Discard, stdin)
	return server.Close()
}
