package issuertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/softtpm"
)

func ecdsaKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	return Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
}

// Spoil says what is wrong with an attempt to get an artifact. The zero value is an attempt that succeeds.
type Spoil struct {
	Host      *Host                         // whose TPM quotes; default World.Host
	Initiator string                        // who signs; default Robot
	Claims    func(*artifact.RequestClaims) // before the request is signed
	Request   func([]byte) []byte           // after it
	Want      func(*attest.Want)            // what is quoted
	Boot      *bootlog.Boot                 // what was booted; default World.Boot
	Measured  *imalog.List                  // what IMA measured; default nothing, not even boot_aggregate
	Parts     func(*softtpm.Evidence)       // before the evidence is encoded
	Evidence  func([]byte) []byte           // after it
	Exporter  [32]byte                      // of the connection; default a random one
	Challenge *wire.Challenge               // default: a new one of the connection
	Conn      *issuer.Connection            // default: a new one
	NoExport  bool                          // the connection has no exporter
}

// Attempt is a request with evidence, ready to be sent.
type Attempt struct {
	Conn     *issuer.Connection
	Exporter [32]byte
	Request  []byte
	Evidence []byte
	Claims   artifact.RequestClaims
	Signer   string // the initiator whose key signed
	World    *World

	Delegations [][]byte
}

// Send sends it.
func (a Attempt) Send() (*issuer.Minted, error) {
	return a.World.Issuer.Mint(a.World.Ctx, a.Conn, a.Exporter, a.Request, a.Evidence, a.Delegations...)
}

// Claims returns a good request, without a confirmation key.
func (w *World) Claims(initiator string, h *Host) artifact.RequestClaims {
	return artifact.RequestClaims{Initiator: initiator, Host: h.URI, Audience: Gate, Expires: w.Seconds() + 120, IssuedAt: w.Seconds(),
		ID: Random(16), Scope: artifact.Scope{{Target: Target, Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{artifact.SHA256Digest(Code)}}}},
		Execution: artifact.Execution{ID: Random(16)}, Limits: &artifact.Limits{Uses: 2}, Lifetime: 300}
}

// Prepare gets a challenge, signs a request and makes evidence.
func (w *World) Prepare(s Spoil) Attempt {
	w.Helper()
	if s.Host == nil {
		s.Host = w.Host
	}
	if s.Initiator == "" {
		s.Initiator = Robot
	}
	if s.Conn == nil {
		s.Conn = issuer.NewConnection()
	}
	if s.Challenge == nil {
		s.Challenge = Must(w.Issuer.Challenge(w.Ctx, s.Conn))(w)
	}
	a := Attempt{Conn: s.Conn, Exporter: s.Exporter, Signer: s.Initiator, World: w}
	if a.Exporter == ([32]byte{}) && !s.NoExport {
		a.Exporter = [32]byte(Random(32))
	}
	a.Request, a.Claims = w.sign(s)
	a.Evidence = w.evidence(s, a)
	return a
}

func (w *World) sign(s Spoil) ([]byte, artifact.RequestClaims) {
	w.Helper()
	c := w.Claims(s.Initiator, s.Host)
	thumb := Must(statement.NewKey(s.Host.TPM.CNF.Public()))(w).Thumbprint()
	c.Confirmation = artifact.Thumbprint{Key: thumb[:]}
	if s.Claims != nil {
		s.Claims(&c)
	}
	raw := Must(artifact.SignRequest(w.Ctx, w.Keys[s.Initiator], c))(w)
	if s.Request != nil {
		raw = s.Request(raw)
	}
	return raw, c
}

// Quoting returns what evidence for a challenge must cover.
func (w *World) Quoting(h *Host, ch *wire.Challenge, request []byte, exporter [32]byte) attest.Want {
	want := attest.Want{AK: h.TPM.AK, Challenge: attest.Nonce(ch.Challenge), Request: statement.DigestOf(request), Exporter: exporter,
		Selection: attest.Selection{Bank: ch.Bank}, Audit: ch.Audit}
	for _, p := range ch.Quote {
		want.Selection.PCRs = append(want.Selection.PCRs, int(p))
	}
	for _, p := range ch.Bind {
		want.Bind = append(want.Bind, int(p))
	}
	return want
}

func (w *World) evidence(s Spoil, a Attempt) []byte {
	w.Helper()
	want := w.Quoting(s.Host, s.Challenge, a.Request, a.Exporter)
	if s.Want != nil {
		s.Want(&want)
	}
	boot := w.Boot
	if s.Boot != nil {
		boot = s.Boot
	}
	pcrs := boot.PCRs(want.Selection.Bank)
	if s.Measured != nil {
		pcrs[10] = s.Measured.PCR10(want.Selection.Bank)
	}
	parts := s.Host.TPM.Evidence(w, want, pcrs, boot.Log)
	if s.Measured != nil {
		parts.IMALog = s.Measured.Bytes
	}
	if s.Parts != nil {
		s.Parts(&parts)
	}
	raw := Must(parts.Encode())(w)
	if s.Evidence != nil {
		raw = s.Evidence(raw)
	}
	return raw
}

// Ask prepares and sends an attempt.
func (w *World) Ask(s Spoil) (*issuer.Minted, error) {
	w.Helper()
	return w.Prepare(s).Send()
}

// Permit gets an artifact.
func (w *World) Permit() *issuer.Minted {
	w.Helper()
	return Must(w.Ask(Spoil{}))(w)
}

// Record returns the record at an index of the log, its signature verified with the record key or the given ones.
func (w *World) Record(index uint64, more ...statement.Key) *record.Record {
	w.Helper()
	var keys statement.Keys
	for _, k := range append(more, w.Keys[record.PurposeRecord].Key()) {
		if err := keys.Add(k, statement.Record); err != nil {
			w.Fatal(err)
		}
	}
	env := Must(statement.Decode(Must(w.Tree.Leaf(w.Ctx, index))(w), statement.MaxStatement))(w)
	return Must(record.Read(Must(env.Verify(keys, statement.Record))(w)))(w)
}

// Size returns the number of entries in the log.
func (w *World) Size() uint64 { return w.Tree.Head().Size }

// Refusal returns the refusal that err is, which must have the reason.
func (w *World) Refusal(err error, want denial.Reason) *issuer.Refusal {
	w.Helper()
	ref, ok := err.(*issuer.Refusal)
	if !ok || ref.Denial.Reason != want {
		w.Fatalf("got %v, want a refusal with %d %s", err, want.Code(), want)
	}
	return ref
}

// Report returns a record of the host's gate about an artifact, signed.
func (w *World) Report(h *Host, minted *issuer.Minted, event record.Event, edit func(*record.Record)) []byte {
	w.Helper()
	c, digest, err := artifact.Inspect(minted.Artifact)
	if err != nil {
		w.Fatal(err)
	}
	r := record.Record{Version: record.Version, Event: event, Time: w.Seconds(), CTI: c.ID, Artifact: digest[:], Workload: h.URI,
		Emitter: record.Emitter{URI: h.Gate, Epoch: h.Chain.Epoch, Seq: h.Chain.Next}, Previous: h.Chain.Previous}
	if event == record.EventStart || event == record.EventEnd {
		r.Execution = &record.Execution{ID: c.Execution.ID, Use: 1, Code: Code[:]}
	}
	if edit != nil {
		edit(&r)
	}
	return Must(r.Sign(w.Ctx, h.Key, r.Emitter.URI))(w)
}

// Follow goes on with the chain behind a record that was taken.
func (h *Host) Follow(leaf []byte) {
	digest := statement.DigestOf(leaf)
	h.Chain.Next, h.Chain.Previous = h.Chain.Next+1, digest[:]
}
