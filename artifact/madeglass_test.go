package artifact_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// made is a break-glass file that a test makes with the keys of the issuer and of its people, past every check of the issuer.
type made struct {
	glass    record.BreakGlass
	issuer   string // of the act
	persons  []string
	record   *record.Record // attestation; nil: none
	receipts map[int]func(leaf []byte) [][]byte
	logged   uint64
	attested uint64 // when the attestation was logged
}

// proof returns the receipt of a leaf that is entry 1 of two, under a head of the given time.
func proof(w *issuertest.World, leaf []byte, at uint64) []byte {
	w.Helper()
	first, second := receipt.LeafHash([]byte("first")), receipt.LeafHash(leaf)
	root := sha256.Sum256(slices.Concat([]byte{1}, first[:], second[:]))
	head := issuertest.Must(receipt.SignHead(w.Ctx, w.Keys[record.PurposeLog], issuertest.Issuer, issuertest.Log, receipt.Head{Size: 2, Root: root, Time: at}))(w)
	return issuertest.Must(receipt.Make(head, 2, 1, []receipt.Hash{first}))(w)
}

// draft returns the file of an authorization that a host has attested for, or one without attestation.
func (e *emergency) draft(t *testing.T, of *issuertest.Glass) *made {
	m := &made{glass: of.BreakGlass, issuer: issuertest.Issuer, persons: []string{issuertest.Alice, issuertest.Bob}, logged: e.Seconds(), attested: e.Seconds(),
		receipts: map[int]func([]byte) [][]byte{}}
	if of.Proof != nil {
		env := issuertest.Must(statement.Decode(of.Proof, 2*statement.MaxStatement))(t)
		var keys statement.Keys
		if err := keys.Add(e.Keys[record.PurposeRecord].Key(), statement.Record); err != nil {
			t.Fatal(err)
		}
		m.record = issuertest.Must(record.Read(issuertest.Must(env.Verify(keys, statement.Record))(t)))(t)
		attested := *m.record.Attested
		m.record.Attested = &attested
	}
	return m
}

// file signs and logs what the draft says. The attestation names the authorization, unless it was made to name another one.
func (e *emergency) made(t *testing.T, m *made) artifact.GlassFile {
	t.Helper()
	claims := statement.Claims{Issuer: m.issuer, Subject: m.glass.Subject(m.issuer)}
	f := artifact.GlassFile{History: e.history()}
	for i, leaf := range e.SignWith(claims, statement.BreakGlass, m.glass, m.persons...) {
		receipts := [][]byte{proof(e.World, leaf, m.logged)}
		if of := m.receipts[i]; of != nil {
			receipts = of(leaf)
		}
		f.Act = append(f.Act, issuertest.Must(statement.Attach(leaf, receipts...))(t))
	}
	if m.record != nil {
		leaf := issuertest.Must(m.record.Sign(e.Ctx, e.Keys[record.PurposeRecord], m.record.Emitter.URI))(t)
		f.Attestation = issuertest.Must(statement.Attach(leaf, proof(e.World, leaf, m.attested)))(t)
	}
	return f
}

// names makes the attestation one for the authorization as it stands.
func (m *made) names(t *testing.T) {
	if m.record != nil {
		digest := statement.DigestOf(issuertest.Must(statement.Marshal(m.glass))(t))
		m.record.CTI, m.record.Artifact = m.glass.ID, digest[:]
	}
}

// P21, P22: each thing that people, host or log can write wrongly, with all signatures good.
func TestP21_GoodSignaturesAreNotEnough(t *testing.T) {
	e := newEmergency(t)
	now := e.Seconds()
	for name, row := range map[string]struct {
		waived bool
		edit   func(*made)
		after  func(*made) // the attestation names what it is for
		want   func(*artifact.Want)
		code   denial.Reason // 0: it is verified
		at     denial.Stage
	}{
		"attested":                                   {},
		"waived":                                     {waived: true},
		"signed by the whole quorum":                 {waived: true, edit: func(m *made) { m.persons = append(m.persons, issuertest.Carol) }, code: denial.BreakGlassInvalid, at: denial.StageSignature},
		"of another version":                         {edit: func(m *made) { m.glass.Version++ }, code: denial.UnsupportedVersion, at: denial.StageType},
		"with a scope that is none":                  {edit: func(m *made) { m.glass.Scope = []byte{0x80} }, code: denial.StructureLimit, at: denial.StageType},
		"under another issuer":                       {waived: true, edit: func(m *made) { m.issuer += "/2" }, code: denial.IdentityConflict, at: denial.StagePins},
		"an attestation of another kind":             {after: func(m *made) { m.record.Event, m.record.Attested = record.EventSummary, nil }, code: denial.WrongType, at: denial.StageType},
		"an attestation by the gate":                 {after: func(m *made) { m.record.Emitter.URI = issuertest.Gate }, code: denial.WrongType, at: denial.StageType},
		"an attestation with another id":             {after: func(m *made) { m.record.CTI = make([]byte, 16) }, code: denial.WrongType, at: denial.StageType},
		"an attestation for other content":           {after: func(m *made) { m.record.Artifact = make([]byte, 32) }, code: denial.WrongType, at: denial.StageType},
		"an attestation of another host":             {after: func(m *made) { m.record.Workload = issuertest.OtherURI }, code: denial.HostMismatch, at: denial.StageType},
		"an attestation of another initiator":        {after: func(m *made) { m.record.Initiator += "/2" }, code: denial.HostMismatch, at: denial.StageType},
		"issued as far ahead as clocks may be apart": {edit: func(m *made) { m.glass.IssuedAt, m.glass.Expires = now+60, now+120 }},
		"issued further ahead": {edit: func(m *made) {
			m.glass.IssuedAt, m.glass.Expires, m.logged, m.attested = now+61, now+120, now+30, now+30
		},
			code: denial.BreakGlassInvalid, at: denial.StageTime},
		"logged as far ahead as clocks may be apart": {edit: func(m *made) { m.logged, m.attested = now+60, now+60 }},
		"logged further ahead":                       {edit: func(m *made) { m.logged = now + 61 }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"attestation logged further ahead":           {edit: func(m *made) { m.attested = now + 61 }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"logged before it was issued":                {edit: func(m *made) { m.logged = m.glass.IssuedAt - 60 }},
		"logged long before it was issued":           {edit: func(m *made) { m.logged = m.glass.IssuedAt - 61 }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"logged before it ended":                     {edit: func(m *made) { m.glass.Expires, m.logged = now+10, now+9 }},
		"logged when it had ended":                   {edit: func(m *made) { m.glass.Expires, m.logged = now+10, now+10 }, code: denial.BreakGlassInvalid, at: denial.StageTime},
		"four receipts": {edit: func(m *made) {
			m.receipts[1] = func(leaf []byte) [][]byte { return slices.Repeat([][]byte{proof(e.World, leaf, now)}, 4) }
		}},
		"the good receipt behind another": {edit: func(m *made) {
			m.receipts[0] = func(leaf []byte) [][]byte {
				return [][]byte{proof(e.World, []byte("other"), now), proof(e.World, leaf, now)}
			}
		}},
		"a receipt header without receipts": {edit: func(m *made) { m.receipts[0] = func([]byte) [][]byte { return nil } }, code: denial.ReceiptInvalid, at: denial.StageReceipt},
		"a record that cannot be":           {after: func(m *made) { m.record.Attested.BootSeed = nil }, code: denial.ClaimAbsent, at: denial.StageType},
		"one key twice in the trust file": {want: func(w *artifact.Want) { w.Trust.Keys = append(w.Trust.Keys, w.Trust.Keys[0]) },
			code: denial.KeyAmbiguous, at: denial.StageSignature},
		"the gate of the trust file":  {want: func(w *artifact.Want) { w.Audience, w.Trust.Audience = "", issuertest.Gate }},
		"a gate without a trust file": {want: func(w *artifact.Want) { w.Trust.Audience = "" }},
		"the gate, with the trust file of another": {want: func(w *artifact.Want) { w.Trust.Audience = issuertest.OtherGate },
			code: denial.AudienceMismatch, at: denial.StageAudience},
	} {
		t.Run(name, func(t *testing.T) {
			of := e.attested
			if row.waived {
				of = e.waived
			}
			m := e.draft(t, of)
			if row.edit != nil {
				row.edit(m)
			}
			m.names(t)
			if row.after != nil {
				row.after(m)
			}
			var f artifact.GlassFile
			if name == "a record that cannot be" {
				f = e.madeWithPayload(t, m)
			} else {
				f = e.made(t, m)
			}
			want, trust := e.want(), *e.trust
			trust.Keys, want.Trust = slices.Clone(trust.Keys), &trust
			if row.want != nil {
				row.want(&want)
			}
			got, err := artifact.VerifyBreakGlass(issuertest.Must(f.Encode())(t), want)
			if row.code == 0 {
				if err != nil {
					t.Errorf("got %v, want it verified", err)
				}
				return
			}
			if !denial.Is(err, row.code) || denial.Of(err).Stage != row.at || got != nil {
				t.Errorf("got %v at %v, want %s at %v", err, denial.Of(err).Stage, row.code, row.at)
			}
		})
	}
}

// madeWithPayload is made with an attestation that Record.Sign would refuse.
func (e *emergency) madeWithPayload(t *testing.T, m *made) artifact.GlassFile {
	t.Helper()
	r := *m.record
	m.record = nil
	f := e.made(t, m)
	r.Reasons = []uint64{}
	c := statement.Claims{Issuer: r.Emitter.URI, Subject: r.Emitter.URI, IssuedAt: r.Time}
	leaf := issuertest.Must(statement.Sign(e.Ctx, e.Keys[record.PurposeRecord], statement.Record, c, issuertest.Must(statement.Marshal(r))(t)))(t)
	f.Attestation = issuertest.Must(statement.Attach(leaf, proof(e.World, leaf, m.attested)))(t)
	return f
}

// C33, P22: the key that the host attested answers the nonce of the gate, and where nothing was attested no key does.
func TestC33_PossessionUnderBreakGlass(t *testing.T) {
	e := newEmergency(t)
	key := issuertest.NewKey(t)
	m := e.draft(t, e.attested)
	m.record.Attested.Key = key.Key()
	verify := func(f artifact.GlassFile) *artifact.Glass {
		return issuertest.Must(artifact.VerifyBreakGlass(issuertest.Must(f.Encode())(t), e.want()))(t)
	}
	attested, waived := verify(e.made(t, m)), verify(e.file(e.waived))
	p := artifact.Possession{Holder: issuertest.HostURI, Audience: issuertest.Gate, Artifact: attested.Digest(), Parameters: artifact.ParametersDigest([]string{"a"}),
		Nonce: artifact.GateNonce{1}, IssuedAt: e.Seconds()}
	by := func(s statement.Signer, edit func(*artifact.Possession)) []byte {
		c := p
		edit(&c)
		return issuertest.Must(artifact.SignPossession(e.Ctx, s, c))(t)
	}
	good := by(key, func(*artifact.Possession) {})
	if err := attested.VerifyPossession(good, p.Nonce, p.Parameters, e.Now()); err != nil {
		t.Error(err)
	}
	for name, raw := range map[string][]byte{
		"another key":      by(e.Keys[issuertest.Robot], func(*artifact.Possession) {}),
		"another host":     by(key, func(p *artifact.Possession) { p.Holder = issuertest.OtherURI }),
		"another gate":     by(key, func(p *artifact.Possession) { p.Audience = issuertest.OtherGate }),
		"another artifact": by(key, func(p *artifact.Possession) { p.Artifact = waived.Digest() }),
		"another nonce":    by(key, func(p *artifact.Possession) { p.Nonce[1] = 1 }),
	} {
		if err := attested.VerifyPossession(raw, p.Nonce, p.Parameters, e.Now()); !denial.Is(err, denial.KeyBinding) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	own := by(key, func(p *artifact.Possession) { p.Artifact = waived.Digest() })
	if err := waived.VerifyPossession(own, p.Nonce, p.Parameters, e.Now()); !denial.Is(err, denial.KeyBinding) {
		t.Errorf("attestation waived: got %v", err)
	}
}

// TestGlassFilesAreDecodedStrictly stands at the bounds of the file, where nothing is verified yet.
func TestGlassFilesAreDecodedStrictly(t *testing.T) {
	item := [][]byte{{1}}
	padded := func(n int) artifact.GlassFile {
		f := artifact.GlassFile{History: item[0], Act: item, Attestation: []byte(strings.Repeat("x", n))}
		return f
	}
	overhead := len(issuertest.Must(padded(1<<16).Encode())(t)) - 1<<16
	const limit = artifact.MaxKeyHistory + 512<<10
	for name, row := range map[string]struct {
		file artifact.GlassFile
		code denial.Reason // 0: it is decoded
	}{
		"16 statements of the act": {artifact.GlassFile{History: item[0], Act: slices.Repeat(item, 16)}, 0},
		"17 statements of the act": {artifact.GlassFile{History: item[0], Act: slices.Repeat(item, 17)}, denial.StructureLimit},
		"no history":               {artifact.GlassFile{Act: item}, denial.StructureLimit},
		"no act":                   {artifact.GlassFile{History: item[0]}, denial.StructureLimit},
		"the longest file":         {padded(limit - overhead), 0},
		"a longer file":            {padded(limit - overhead + 1), denial.StructureLimit},
	} {
		raw := issuertest.Must(row.file.Encode())(t)
		f, err := artifact.DecodeGlassFile(raw)
		if row.code == 0 && (err != nil || len(f.Act) != len(row.file.Act)) || row.code != 0 && !denial.Is(err, row.code) {
			t.Errorf("%s, %d bytes: got %v, want %s", name, len(raw), err, row.code)
		}
	}
	for name, row := range map[string]struct {
		raw  []byte
		code denial.Reason
	}{
		"an empty map":     {[]byte{0xa0}, denial.ClaimAbsent},
		"an unknown key":   {[]byte{0xa3, 1, 0x41, 1, 2, 0x81, 0x41, 1, 4, 0}, denial.UnsupportedVersion},
		"a byte behind it": {append(issuertest.Must(padded(1).Encode())(t), 0), denial.TrailingData},
		"cut short":        {[]byte{0xa2, 1}, denial.NotCanonical},
	} {
		if !artifact.IsGlassFile(row.raw) {
			t.Errorf("%s: not known as a break-glass file", name)
		}
		_, err := artifact.VerifyBreakGlass(row.raw, artifact.Want{Now: time.Unix(1, 0)})
		if !denial.Is(err, row.code) || denial.Of(err).Stage != denial.StageArtifactDecode {
			t.Errorf("%s: got %v, want %s", name, err, row.code)
		}
	}
}

// A person is shown what a file claims only where it claims a break-glass authorization.
func TestGlassFilesAreInspected(t *testing.T) {
	e := newEmergency(t)
	sign := func(kind statement.Kind, payload any) []byte {
		c := statement.Claims{Issuer: issuertest.Issuer, Subject: "urn:x"}
		return issuertest.Must(statement.Sign(e.Ctx, e.Keys[issuertest.Robot], kind, c, issuertest.Must(statement.Marshal(payload))(t)))(t)
	}
	short := e.attested.BreakGlass
	short.Why = ""
	for name, row := range map[string]struct {
		act  []byte
		code denial.Reason
	}{
		"no envelope":       {[]byte{1}, denial.WrongType},
		"another kind":      {sign(statement.Review, e.attested.BreakGlass), denial.WrongType},
		"another payload":   {sign(statement.BreakGlass, map[int]int{1: 1}), denial.ClaimAbsent},
		"no justification":  {sign(statement.BreakGlass, short), denial.ClaimAbsent},
		"a foreign payload": {sign(statement.BreakGlass, []int{1}), denial.PayloadForm},
	} {
		f := artifact.GlassFile{History: e.history(), Act: [][]byte{row.act}}
		if _, _, err := f.Inspect(); !denial.Is(err, row.code) {
			t.Errorf("%s: got %v, want %s", name, err, row.code)
		}
	}
}
