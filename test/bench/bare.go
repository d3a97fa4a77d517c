package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/miekg/pkcs11"
	_ "modernc.org/sqlite" // the engine of package tlog

	"github.com/governed-execution/writ/hsm"
)

// leafSize is about the size of an artifact in the log.
const leafSize = 1400

// sessions is how many callers may be in the module at once: the default of package hsm.
const sessions = 16

// bare is the work that an artifact cannot be had without, and nothing around it: no encoding, no checks, no queue but
// that of the batch. All of it is the machine's and the libraries' own speed.
type bare struct {
	strangers []signed // by turns what is verified
	turn      atomic.Uint64
	digest    [32]byte
	module    *pkcs11.Ctx
	key       pkcs11.ObjectHandle
	signer    *ecdsa.PublicKey // of key
	sessions  chan pkcs11.SessionHandle
	db        *sql.DB
	queue     chan waiting
	ended     chan struct{}
}

// newBare uses the same token, module and login as the site, and a database beside its log with the same settings.
func newBare(ctx context.Context, s *site) (*bare, error) {
	b := &bare{digest: sha256.Sum256([]byte("an attestation")), queue: make(chan waiting, 1024), ended: make(chan struct{})}
	for range maxHosts {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		sig, err := ecdsa.SignASN1(rand.Reader, key, b.digest[:])
		if err != nil {
			return nil, err
		}
		b.strangers = append(b.strangers, signed{&key.PublicKey, sig})
	}
	if err := b.openToken(s); err != nil {
		return nil, err
	}
	pragmas := []string{"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "temp_store(MEMORY)"}
	dsn := url.URL{Scheme: "file", Path: filepath.Join(s.dir, "bare.db"), RawQuery: url.Values{"mode": {"rwc"}, "_pragma": pragmas}.Encode()}
	var err error
	if b.db, err = sql.Open("sqlite", dsn.String()); err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	b.db.SetMaxOpenConns(1)
	if _, err := b.db.ExecContext(ctx, "CREATE TABLE leaves (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT"); err != nil {
		return nil, errors.Join(fmt.Errorf("making table: %w", err), b.db.Close())
	}
	go aside(b.runWriter)
	return b, nil
}

// openToken opens sessions beside those of package hsm, whose login holds for the whole process.
func (b *bare) openToken(s *site) error {
	public, ok := s.signers[hsm.Artifact].Key().Public().(*ecdsa.PublicKey)
	if !ok {
		return errors.New("finding key: it is not ECDSA")
	}
	b.signer, b.module, b.sessions = public, pkcs11.New(s.token.module), make(chan pkcs11.SessionHandle, sessions)
	slots, err := b.module.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("listing slots: %w", err)
	}
	for range sessions {
		session, err := b.module.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return fmt.Errorf("opening session: %w", err)
		}
		b.sessions <- session
	}
	session := <-b.sessions
	defer func() { b.sessions <- session }()
	if err := b.module.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, "writ-artifact")}); err != nil {
		return fmt.Errorf("finding key: %w", err)
	}
	found, _, err := b.module.FindObjects(session, 2)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("finding key: %d of them: %w", len(found), err)
	}
	b.key = found[0]
	return b.module.FindObjectsFinal(session)
}

// signed is a signature, in ASN.1, over the digest.
type signed struct {
	by  *ecdsa.PublicKey
	sig []byte
}

// verify is n ECDSA P-256 verifications, one after the other, each of another key's signature than the one before.
func (b *bare) verify(n int) error {
	for range n {
		of := b.strangers[b.turn.Add(1)%uint64(len(b.strangers))]
		if !ecdsa.VerifyASN1(of.by, b.digest[:], of.sig) {
			return errors.New("verifying: the signature does not verify")
		}
	}
	return nil
}

// sign is one signature by the token and its check.
func (b *bare) sign() error {
	sig, err := b.tokenSigns()
	if err != nil {
		return err
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
	if err == nil && !ecdsa.VerifyASN1(b.signer, b.digest[:], der) {
		err = errors.New("signing: the signature does not verify")
	}
	return err
}

// rawSign is one signature by the token.
func (b *bare) rawSign() error {
	_, err := b.tokenSigns()
	return err
}

func (b *bare) tokenSigns() ([]byte, error) {
	session := <-b.sessions
	defer func() { b.sessions <- session }()
	if err := b.module.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, b.key); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	sig, err := b.module.Sign(session, b.digest[:])
	if err == nil && len(sig) != 64 {
		err = errors.New("the signature does not have 64 bytes")
	}
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sig, nil
}

// softSign is one signature by a software key and its check.
func softSign(key *ecdsa.PrivateKey) error {
	digest := sha256.Sum256([]byte("a statement"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err == nil && !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
		err = errors.New("signing: the signature does not verify")
	}
	return err
}

// waiting is a caller who waits for a commit and, if it is to be sealed, for a signature over the batch.
type waiting struct {
	done chan error
	seal bool
}

// commit returns when a row is durable, together with all rows that waited.
func (b *bare) commit(seal bool) error {
	w := waiting{make(chan error, 1), seal}
	b.queue <- w
	return <-w.done
}

func (b *bare) runWriter() {
	defer close(b.ended)
	for first := range b.queue {
		runtime.Gosched() // as the writer of package tlog: whoever can run has its turn
		batch := []waiting{first}
		for len(b.queue) > 0 && len(batch) < 256 {
			batch = append(batch, <-b.queue)
		}
		err := b.write(len(batch))
		if err == nil && first.seal {
			err = b.sign()
		}
		for _, w := range batch {
			w.done <- err
		}
	}
}

func (b *bare) write(rows int) error {
	tx, err := b.db.Begin()
	if err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	defer tx.Rollback()
	insert, err := tx.Prepare("INSERT INTO leaves (entry) VALUES (?)")
	if err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	entry := random(leafSize)
	for range rows {
		if _, err := insert.Exec(entry); err != nil {
			return fmt.Errorf("committing: %w", err)
		}
	}
	return tx.Commit()
}

// mint is the bare work behind one artifact: so many signatures verified, one signature by the token and its check, one
// durable commit.
func (b *bare) mint(verified int) error {
	if err := b.verify(verified); err != nil {
		return err
	}
	if err := b.sign(); err != nil {
		return err
	}
	return b.commit(false)
}

func (b *bare) close() error {
	close(b.queue)
	<-b.ended
	for range sessions {
		if err := b.module.CloseSession(<-b.sessions); err != nil {
			return fmt.Errorf("closing session: %w", err)
		}
	}
	return b.db.Close()
}
