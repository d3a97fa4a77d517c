package custody

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
)

// catcher keeps what it should sign.
type catcher struct {
	statement.Signer
	tbs statement.ToBeSigned
}

func (c *catcher) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	c.tbs = tbs
	return c.Signer.Sign(ctx, tbs)
}

// request returns what the signer would send for a good statement of the kind.
func request(t testing.TB, s statement.Signer, purpose hsm.Purpose, kind statement.Kind) signRequest {
	t.Helper()
	c := &catcher{Signer: s}
	var err error
	if kind == statement.Checkpoint {
		_, _, err = statement.SignCheckpoint(t.Context(), c, "issuer.example/log", 7, [32]byte{1})
	} else {
		_, err = sign(t.Context(), c, kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := signRequest{purpose: purpose, kind: kind, key: s.Key().Thumbprint(), within: 5 * time.Second}
	r.claims, r.payload = c.tbs.Content()
	return r
}

// succession returns what the signer would send to name its own successor.
func succession(t testing.TB, s statement.Signer) signRequest {
	t.Helper()
	c := &catcher{Signer: s}
	if _, err := record.SignSuccession(t.Context(), c, "https://issuer.example", record.Succession{Version: record.Version,
		Purpose: record.PurposeRecord, Key: s.Key(), Previous: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	r := signRequest{purpose: hsm.Record, kind: statement.Succession, key: s.Key().Thumbprint(), within: 5 * time.Second}
	r.claims, r.payload = c.tbs.Content()
	return r
}

// TestH17_H19_TheProcessSignsStatementsOfItsPurposeOnly speaks to the signer process as a taken-over issuer could.
func TestH17_H19_TheProcessSignsStatementsOfItsPurposeOnly(t *testing.T) {
	p := open(t, config(softhsm.New(t)))
	recorder, log := newSigner(t, p, hsm.Record), newSigner(t, p, hsm.Log)
	artifacts, status := newSigner(t, p, hsm.Artifact), newSigner(t, p, hsm.Status)
	l, err := p.current()
	if err != nil {
		t.Fatal(err)
	}
	rec, head := request(t, recorder, hsm.Record, statement.Record), request(t, log, hsm.Log, statement.Receipt)
	note, hash := request(t, log, hsm.Log, statement.Checkpoint), request(t, recorder, hsm.Record, statement.Manifest)
	next := succession(t, recorder)
	for _, good := range []signRequest{rec, head, note, hash, next} {
		if _, err := l.ask(t.Context(), opSign, good.encode()); err != nil {
			t.Errorf("%v: got %v", good.kind, err)
		}
	}
	for name, c := range map[string]struct {
		from   signRequest
		change func(*signRequest)
		want   denial.Reason
	}{
		"H17 a digest as a receipt's text":    {note, func(r *signRequest) { r.payload = make([]byte, 32) }, denial.WrongType},
		"H17 a digest as a record":            {rec, func(r *signRequest) { r.payload = bytes.Repeat([]byte{0xff}, 32) }, denial.NotCanonical},
		"H17 another Sig_structure as a note": {note, func(r *signRequest) { r.payload = append([]byte{0x84, 0x6a}, "Signature1"...) }, denial.WrongType},
		"a checkpoint with a line more":       {note, func(r *signRequest) { r.payload = append(bytes.Clone(r.payload), "more\n"...) }, denial.WrongType},
		"a checkpoint with another size":      {note, func(r *signRequest) { r.payload = bytes.Replace(r.payload, []byte("\n7\n"), []byte("\n07\n"), 1) }, denial.WrongType},
		"H19 the log key for a record":        {rec, func(r *signRequest) { r.key, r.purpose = log.Key().Thumbprint(), hsm.Log }, denial.WrongType},
		"H19 the log key as a record key":     {rec, func(r *signRequest) { r.key = log.Key().Thumbprint() }, denial.HSMKeyPolicy},
		"H19 the record key for a tree head":  {head, func(r *signRequest) { r.key, r.purpose = recorder.Key().Thumbprint(), hsm.Record }, denial.WrongType},
		"H19 the status key for a checkpoint": {note, func(r *signRequest) { r.key, r.purpose = status.Key().Thumbprint(), hsm.Status }, denial.WrongType},
		"H19 the artifact key for a record":   {rec, func(r *signRequest) { r.key, r.purpose = artifacts.Key().Thumbprint(), hsm.Artifact }, denial.WrongType},
		"H19 a record as an artifact": {rec, func(r *signRequest) {
			r.key, r.purpose, r.kind = artifacts.Key().Thumbprint(), hsm.Artifact, statement.Artifact
		}, denial.TimeMalformed},
		"H19 a record as a status list": {rec, func(r *signRequest) {
			r.key, r.purpose, r.kind = status.Key().Thumbprint(), hsm.Status, statement.StatusList
		}, denial.UnsupportedVersion},
		"H19 a record as a policy": {rec, func(r *signRequest) { r.kind = statement.Policy }, denial.WrongType},
		"H19 the record key names a log key": {next, func(r *signRequest) {
			r.key, r.purpose = log.Key().Thumbprint(), hsm.Log
		}, denial.WrongType},
		"a succession of another issuer":        {next, func(r *signRequest) { r.claims.Issuer = "https://other.example" }, denial.WrongType},
		"H19 an unknown kind":                   {rec, func(r *signRequest) { r.kind = 200 }, denial.WrongType},
		"H19 no purpose":                        {rec, func(r *signRequest) { r.purpose = 0 }, denial.HSMKeyPolicy},
		"H19 a key that was not bound":          {rec, func(r *signRequest) { r.key[0] ^= 1 }, denial.HSMKeyPolicy},
		"a head of another length":              {head, func(r *signRequest) { r.payload = r.payload[1:] }, denial.PayloadForm},
		"a manifest that is no hash":            {hash, func(r *signRequest) { r.payload = append(bytes.Clone(r.payload), 0) }, denial.PayloadForm},
		"a record by another issuer":            {rec, func(r *signRequest) { r.claims.Issuer = "https://other.example" }, denial.WrongType},
		"a record of another time":              {rec, func(r *signRequest) { r.claims.IssuedAt++ }, denial.WrongType},
		"a record with a byte more":             {rec, func(r *signRequest) { r.payload = append(bytes.Clone(r.payload), 0) }, denial.TrailingData},
		"H16 a signature that nobody waits for": {rec, func(r *signRequest) { r.within = 0 }, denial.HSMUnavailable},
	} {
		r := c.from
		c.change(&r)
		_, err := l.ask(t.Context(), opSign, r.encode())
		if !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %d", name, err, c.want.Code())
		}
	}
	for name, r := range map[string]frame{
		"an unknown request": {op: 99}, "a second opening": {op: opOpen, body: []byte("{}")},
		"a sign request cut short": {op: opSign, body: rec.encode()[:40]}, "a bind request cut short": {op: opBind, body: []byte{1}},
	} {
		if _, err := l.ask(t.Context(), r.op, r.body); err == nil {
			t.Errorf("%s was answered", name)
		}
		if r.op == opOpen { // the process ends: what follows serves
			healed(t, recorder, statement.Record)
			if l, err = p.current(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzDecodeSign(f *testing.F) {
	good := signRequest{purpose: hsm.Record, kind: statement.Record, claims: statement.Claims{Issuer: "a", Subject: "b", IssuedAt: 1}, payload: []byte{0xa0}}
	f.Add(good.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeSign(b); err == nil && !bytes.Equal(r.encode(), b) {
			t.Errorf("%x decodes to %+v, which encodes otherwise", b, r)
		}
	})
}
