package audit_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// files is a bundle taken apart.
type files map[string][]byte

func unpack(tb testing.TB, raw []byte) files {
	tb.Helper()
	f, r := files{}, tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return f
		}
		if err != nil {
			tb.Fatal(err)
		}
		f[h.Name] = must(io.ReadAll(r))(tb)
	}
}

// pack writes the members in the given order, or in order of name.
func (f files) pack(tb testing.TB, order ...string) []byte {
	tb.Helper()
	if order == nil {
		order = slices.Sorted(maps.Keys(f))
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range order {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(f[name])), Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(f[name]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func (f files) manifest(tb testing.TB) audit.Manifest {
	tb.Helper()
	var m audit.Manifest
	if err := statement.Unmarshal(f["manifest.cbor"], &m); err != nil {
		tb.Fatal(err)
	}
	return m
}

// reseal writes the manifest anew, after edit, and has the issuer sign and log it: what a dishonest issuer can do.
func (s *stage) reseal(f files, edit func(*audit.Manifest)) []byte {
	s.Helper()
	return s.resealBy(s.Issuer.SealManifest, f, edit)
}

func (s *stage) resealBy(seal func(context.Context, string, []byte) ([]byte, error), f files, edit func(*audit.Manifest)) []byte {
	s.Helper()
	m := f.manifest(s)
	var list []audit.File
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !strings.HasPrefix(name, "manifest.") {
			list = append(list, audit.File{Path: name, Size: uint64(len(f[name])), Hash: sha256.Sum256(f[name])})
		}
	}
	m.Files = audit.Chunked(list)
	if edit != nil {
		edit(&m)
	}
	f["manifest.cbor"] = must(statement.Marshal(m))(s)
	hash := sha256.Sum256(f["manifest.cbor"])
	f["manifest.cose"] = must(seal(s.Ctx, issuertest.Log, hash[:]))(s)
	return f.pack(s)
}

// recapsule changes a capsule and has the issuer sign it again.
func (s *stage) recapsule(f files, of statement.Digest, edit func(*audit.Capsule)) {
	s.Helper()
	env := must(statement.Decode(f[audit.NameCapsule(of)], 9<<20))(s)
	var c audit.Capsule
	if err := statement.Unmarshal(env.Payload(), &c); err != nil {
		s.Fatal(err)
	}
	edit(&c)
	f[audit.NameCapsule(of)] = must(s.Issuer.SealCapsule(s.Ctx, env.Claims().Subject, must(statement.Marshal(c))(s)))(s)
}

// wantRefuted checks that the bundle is refuted with the reason, as a whole or by one of its statements.
func wantRefuted(t testing.TB, r *audit.Report, want denial.Reason) {
	t.Helper()
	if err := r.Err(); r.Verdict != audit.Refuted || !denial.Is(err, want) {
		t.Fatalf("got %s, %v, want %d %s\n%s", r.Verdict, err, want.Code(), want, r.Text())
	}
}

// finding returns the finding on an entry.
func finding(t testing.TB, r *audit.Report, index uint64) audit.Finding {
	t.Helper()
	for _, f := range r.Statements {
		if f.Index == index {
			return f
		}
	}
	t.Fatalf("no finding on entry %d\n%s", index, r.Text())
	return audit.Finding{}
}

func TestT24_EditedBundleIsRefused(t *testing.T) {
	s := newStage(t)
	permits, _ := s.story()
	good := s.export(audit.Query{})
	statements := func(f files) (names []string) {
		for name := range f {
			if strings.HasPrefix(name, "statements/") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	swap := func(f files) {
		n := statements(f)
		f[n[5]], f[n[6]] = f[n[6]], f[n[5]]
	}
	var other []byte // of another log
	{
		o := newStage(t)
		other = unpack(t, o.export(audit.Query{}))[audit.NameStatement(3)]
	}
	for name, edit := range map[string]func(files){
		"T24 a statement removed":        func(f files) { delete(f, audit.NameStatement(7)) },
		"T24 the last removed":           func(f files) { n := statements(f); delete(f, n[len(n)-1]) },
		"T24 a denial's capsule":         func(f files) { delete(f, audit.NameCapsule(digestAt(t, f, permits[0].Index))) },
		"T24 a statement added":          func(f files) { f[audit.NameStatement(999)] = f[audit.NameStatement(7)] },
		"T24 a foreign statement":        func(f files) { f[audit.NameStatement(7)] = other },
		"T24 two statements reordered":   swap,
		"T24 a capsule added":            func(f files) { f[audit.NameCapsule(statement.Digest{1})] = []byte{0xa0} },
		"T24 a policy changed":           func(f files) { bump(f, "policy/") },
		"T24 a consistency proof edited": func(f files) { bump(f, "receipts/consistency") },
		"T24 the key set changed":        func(f files) { bump(f, "keys/scitt") },
	} {
		t.Run(name, func(t *testing.T) {
			f := unpack(t, good)
			edit(f)
			wantRefuted(t, s.verify(f.pack(t)), denial.ReceiptInvalid)
			resealed := s.verify(s.reseal(f, nil))
			if resealed.Verdict != audit.Refuted {
				t.Errorf("sealed again by the issuer it is %s", resealed.Verdict)
			}
			f = unpack(t, good)
			edit(f)
			raw := s.reseal(f, nil)
			f = unpack(t, raw)
			hash := sha256.Sum256(f["manifest.cbor"])
			leaf := must(statement.Sign(s.Ctx, issuertest.NewKey(t), statement.Manifest, statement.Claims{Issuer: issuerURI, Subject: issuertest.Log, IssuedAt: s.Seconds()}, hash[:]))(t)
			done := must(s.Tree.Append(s.Ctx, tlog.Entry{Leaf: leaf}))(t)
			f["manifest.cose"] = must(statement.Attach(leaf, done[0].Receipt))(t)
			wantRefuted(t, s.verify(f.pack(t)), denial.KeyUnknown)
		})
	}
	t.Run("T24 members in another order", func(t *testing.T) {
		f := unpack(t, good)
		order := slices.Sorted(maps.Keys(f))
		order[3], order[4] = order[4], order[3]
		wantRefuted(t, s.verify(f.pack(t, order...)), denial.ReceiptInvalid)
	})
	t.Run("T24 a member twice", func(t *testing.T) {
		f := unpack(t, good)
		order := slices.Sorted(maps.Keys(f))
		wantRefuted(t, s.verify(f.pack(t, slices.Insert(order, 3, order[3])...)), denial.ReceiptInvalid)
	})
}

func digestAt(t testing.TB, f files, index uint64) statement.Digest {
	t.Helper()
	return must(statement.Decode(f[audit.NameStatement(index)], 1<<20))(t).Digest()
}

// resized is a checkpoint whose size was changed after it was signed.
func resized(checkpoint []byte) []byte {
	lines := bytes.SplitN(checkpoint, []byte("\n"), 3)
	return bytes.Join([][]byte{lines[0], slices.Concat(lines[1], []byte("0")), lines[2]}, []byte("\n"))
}

// bump changes the last byte of the first file with the prefix.
func bump(f files, prefix string) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if strings.HasPrefix(name, prefix) {
			f[name] = bytes.Clone(f[name])
			f[name][len(f[name])-1] ^= 1
			return
		}
	}
}

func TestResealedBundleIsRefutedForWhatItIs(t *testing.T) {
	s := newStage(t)
	permits, _ := s.story()
	good := s.export(audit.Query{})
	first, last := digestAt(t, unpack(t, good), permits[0].Index), unpack(t, good).manifest(t).Query.To-1
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }
	point := unpack(t, good)["checkpoint"]
	head := unpack(t, good).manifest(t).Head
	now := receipt.Head{Size: head.Size, Root: head.Root}
	note := func(key *issuertest.Key, log string, h receipt.Head) []byte {
		return must(receipt.SignCheckpoint(s.Ctx, key, receipt.Origin(log), h))(t)
	}
	older := note(s.Keys[record.PurposeLog], issuertest.Log, receipt.Head{Size: now.Size - 1, Root: now.Root})
	foreign, strange := note(s.Keys[record.PurposeLog], issuertest.Log+"/2", now), note(issuertest.NewKey(t), issuertest.Log, now)
	for name, c := range map[string]struct {
		edit func(files)
		want denial.Reason
	}{
		"a statement of the range removed": {func(f files) { delete(f, audit.NameStatement(20)) }, denial.ReceiptInvalid},
		"the end removed":                  {func(f files) { delete(f, audit.NameStatement(uint64(f.manifest(t).Query.To-1))) }, denial.ReceiptInvalid},
		"evidence changed": {func(f files) {
			s.recapsule(f, first, func(c *audit.Capsule) { c.Evidence.Value = flip(c.Evidence.Value) })
		}, denial.LogInconsistent},
		"request changed": {func(f files) {
			s.recapsule(f, first, func(c *audit.Capsule) { c.Request.Value = flip(c.Request.Value) })
		}, denial.LogInconsistent},
		"input changed":           {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Input.Value = flip(c.Input.Value) }) }, denial.LogInconsistent},
		"EK chain changed":        {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Chain.Value = flip(c.Chain.Value) }) }, denial.LogInconsistent},
		"EK chain left out":       {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Chain = nil }) }, denial.NoEvidence},
		"evidence left out":       {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Evidence = nil }) }, denial.NoEvidence},
		"policy document changed": {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Policy.Value = flip(c.Policy.Value) }) }, denial.PolicyHashMismatch},
		"policies left out":       {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Policy = nil }) }, denial.PolicyHashMismatch},
		"capsule of another outcome": {func(f files) {
			s.recapsule(f, first, func(c *audit.Capsule) { c.Outcome.Value = flip(c.Outcome.Value) })
		}, denial.LogInconsistent},
		"capsule of another type":       {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Input.Type = "text/plain" }) }, denial.WrongType},
		"capsule of another profile":    {func(f files) { s.recapsule(f, first, func(c *audit.Capsule) { c.Profile += "0" }) }, denial.UnsupportedVersion},
		"capsule removed":               {func(f files) { delete(f, audit.NameCapsule(first)) }, denial.NoEvidence},
		"capsule broken":                {func(f files) { f[audit.NameCapsule(first)] = flip(f[audit.NameCapsule(first)]) }, denial.SignatureInvalid},
		"policy file changed":           {func(f files) { bump(f, "policy/") }, denial.PolicyHashMismatch},
		"key set changed":               {func(f files) { bump(f, "keys/scitt") }, denial.KeyUnknown},
		"key history removed":           {func(f files) { delete(f, "keys/history.cbor") }, denial.ClaimAbsent},
		"key history broken":            {func(f files) { bump(f, "keys/history") }, denial.NotCanonical},
		"checkpoint removed":            {func(f files) { delete(f, "checkpoint") }, denial.ReceiptInvalid},
		"checkpoint changed":            {func(f files) { f["checkpoint"] = resized(point) }, denial.SignatureInvalid},
		"checkpoint of an older tree":   {func(f files) { f["checkpoint"] = older }, denial.LogInconsistent},
		"T15 checkpoint of another log": {func(f files) { f["checkpoint"] = foreign }, denial.LogInconsistent},
		"checkpoint by a stranger":      {func(f files) { f["checkpoint"] = strange }, denial.KeyUnknown},
		"checkpoint policy changed":     {func(f files) { bump(f, "tlog-policy") }, denial.KeyUnknown},
		"proof removed":                 {func(f files) { delete(f, audit.NameProof(last)) }, denial.ReceiptInvalid},
		"proof of another entry":        {func(f files) { f[audit.NameProof(last)] = f[audit.NameProof(last-1)] }, denial.ReceiptInvalid},
		"proof under another checkpoint": {func(f files) {
			f[audit.NameProof(last)] = bytes.Replace(f[audit.NameProof(last)], f["checkpoint"], older, 1)
		}, denial.ReceiptInvalid},
		"detached receipt removed":      {func(f files) { delete(f, audit.NameReceipt(last)) }, denial.ReceiptInvalid},
		"detached receipt of another":   {func(f files) { f[audit.NameReceipt(last)] = f[audit.NameReceipt(last-1)] }, denial.ReceiptInvalid},
		"status list removed":           {func(f files) { delete(f, audit.NameStatus(0)) }, denial.ReceiptInvalid},
		"status list changed":           {func(f files) { f[audit.NameStatus(0)] = flip(f[audit.NameStatus(0)]) }, denial.SignatureInvalid},
		"status list is an artifact":    {func(f files) { f[audit.NameStatus(0)] = permits[0].Artifact }, denial.WrongType},
		"consistency proof removed":     {func(f files) { delete(f, audit.NameHead(headOf(t, f))) }, denial.LogInconsistent},
		"consistency proof changed":     {func(f files) { bump(f, "receipts/consistency") }, denial.LogInconsistent},
		"a file that nothing calls for": {func(f files) { f[audit.NameHead(1)] = []byte{1} }, denial.ReceiptInvalid},
		"genesis removed":               {func(f files) { delete(f, audit.NameStatement(0)) }, denial.ReceiptInvalid},
		"second of genesis removed":     {func(f files) { delete(f, audit.NameStatement(1)) }, denial.ThresholdNotMet},
		"a receipt of another entry":    {func(f files) { f[audit.NameStatement(last)] = f[audit.NameStatement(last-1)] }, denial.ReceiptInvalid},
		"no receipt": {func(f files) {
			f[audit.NameStatement(last)] = must(statement.Decode(f[audit.NameStatement(last)], 1<<20))(t).Leaf()
		}, denial.NoReceipt},
	} {
		t.Run(name, func(t *testing.T) {
			f := unpack(t, good)
			c.edit(f)
			wantRefuted(t, s.verify(s.reseal(f, nil)), c.want)
		})
	}
}

// headOf returns the size of the first head of a bundle.
func headOf(t testing.TB, f files) (size uint64) {
	t.Helper()
	for size = 2; ; size++ {
		if _, ok := f[audit.NameHead(size)]; ok {
			return size
		}
		if size > 1<<20 {
			t.Fatal("no head in the bundle")
		}
	}
}

func TestWrongManifestIsRefused(t *testing.T) {
	s := newStage(t)
	s.permit()
	s.permit()
	good := s.export(audit.Query{})
	for name, c := range map[string]struct {
		edit func(*audit.Manifest)
		want denial.Reason
	}{
		"another version":         {func(m *audit.Manifest) { m.Version++ }, denial.UnsupportedVersion},
		"another issuer":          {func(m *audit.Manifest) { m.Issuer += "/" }, denial.IdentityConflict},
		"another log":             {func(m *audit.Manifest) { m.Log += "/" }, denial.IdentityConflict},
		"a head of the future":    {func(m *audit.Manifest) { m.Head.Size += 100 }, denial.ReceiptInvalid},
		"a later head":            {func(m *audit.Manifest) { m.Head.Time += 1 << 20 }, denial.ReceiptInvalid},
		"another root":            {func(m *audit.Manifest) { m.Head.Root[0] ^= 1 }, denial.LogInconsistent},
		"an empty range":          {func(m *audit.Manifest) { m.Query.From = m.Query.To }, denial.PayloadForm},
		"a range behind the head": {func(m *audit.Manifest) { m.Query.To = m.Head.Size + 1 }, denial.PayloadForm},
		"a narrower range":        {func(m *audit.Manifest) { m.Query.To-- }, denial.ReceiptInvalid},
		"records before a range":  {func(m *audit.Manifest) { m.Query.From = m.Query.To - 1 }, denial.ReceiptInvalid},
		"a count less":            {func(m *audit.Manifest) { m.Counts[0][0].N-- }, denial.ReceiptInvalid},
		"a count more":            {func(m *audit.Manifest) { m.Counts = append(m.Counts, m.Counts[0]) }, denial.PayloadForm},
		"a wrong size":            {func(m *audit.Manifest) { m.Files[0][0].Size++ }, denial.ReceiptInvalid},
		"files out of order":      {func(m *audit.Manifest) { f := m.Files[0]; f[0], f[1] = f[1], f[0] }, denial.ReceiptInvalid},
		"a file more":             {func(m *audit.Manifest) { m.Files[0] = append(m.Files[0], audit.File{Path: "zzz"}) }, denial.ReceiptInvalid},
		"a list cut otherwise":    {func(m *audit.Manifest) { m.Files = append(m.Files, m.Files[0][:1]) }, denial.PayloadForm},
	} {
		t.Run(name, func(t *testing.T) {
			s.tick()
			wantRefuted(t, s.verify(s.reseal(unpack(t, good), c.edit)), c.want)
		})
	}
}

// forge appends an artifact that the issuer's own keys sign over an input that was edited: what an issuer with a
// changed program could do. It returns its index.
func (s *stage) forge(permit *artifact.Claims, edit func(*decision.Input), late func(*artifact.Claims)) uint64 {
	s.Helper()
	in := must(decision.DecodeInput(s.blob(permit.Policy.Input.Value)))(s)
	in.ID, in.StatusIndex = nonce(16), in.StatusIndex+1000
	edit(in)
	encoded := must(in.Encode())(s)
	c := *permit
	c.ID, c.Lineage.Root, c.Status.List.Index = in.ID, in.ID, in.StatusIndex
	c.Policy.Input = artifact.SHA256Digest(statement.DigestOf(encoded))
	c.IssuedAt, c.NotBefore, c.Expires = in.Time, in.Time, in.Time+in.Request.Lifetime
	if late != nil {
		late(&c)
	}
	leaf := must(artifact.Sign(s.Ctx, s.Keys[record.PurposeArtifact], c))(s)
	return must(s.Tree.Append(s.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{encoded}}))(s)[0].Index
}

// blob returns what the log keeps under a digest.
func (s *stage) blob(digest []byte) []byte {
	s.Helper()
	data, ok, err := s.Tree.Blob(s.Ctx, statement.Digest(digest))
	if err != nil || !ok {
		s.Fatalf("blob: %v, %v", ok, err)
	}
	return data
}

// An issuer that forgets how far a TPM's clock had gone is found out by the entries before.
func TestF14_ForgottenClockIsRefuted(t *testing.T) {
	s := newStage(t)
	s.permit()
	back := *s.Host.TPM
	back.Clock.ResetCount = 0
	s.refuse(denial.BootRollback, asking{tpm: &back})
	in := must(decision.DecodeInput(s.blob(s.lastRecord(record.EventDenial).Input)))(t)
	in.HighWater = nil
	d := decision.Decide(in, s.docs[record.Appraisal], s.docs[record.Authorization])
	if err := d.Denied(); err != nil {
		t.Fatal(err)
	}
	leaf := must(artifact.Sign(s.Ctx, s.Keys[record.PurposeArtifact], d.Claims()))(t)
	s.wantForged(t, must(s.Tree.Append(s.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{must(in.Encode())(t)}}))(t)[0].Index, denial.BootRollback)
}

func TestForgedPermitIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*stage, *decision.Input)
		late func(*artifact.Claims)
		want denial.Reason
	}{
		"the same request again":      {func(*stage, *decision.Input) {}, nil, denial.RequestReplayed},
		"other facts":                 {func(_ *stage, in *decision.Input) { in.Facts.Firmware++ }, nil, denial.LogInconsistent},
		"another confirmation key":    {func(s *stage, in *decision.Input) { in.CNF = s.Keys[alice].Key() }, nil, denial.LogInconsistent},
		"another request":             {func(_ *stage, in *decision.Input) { in.Request.Lifetime-- }, nil, denial.LogInconsistent},
		"another host label":          {func(_ *stage, in *decision.Input) { in.Host.Labels = map[string]string{"env": "prod"} }, nil, denial.LogInconsistent},
		"a host never enrolled":       {func(_ *stage, in *decision.Input) { in.Host.Enrolment = nonce(32) }, nil, denial.NotEnrolled},
		"another initiator":           {func(_ *stage, in *decision.Input) { in.Initiator.ID = mallory }, nil, denial.KeyUnknown},
		"another initiator's key":     {func(s *stage, in *decision.Input) { t := s.Keys[mallory].Key().Thumbprint(); in.Initiator.Key = t[:] }, nil, denial.KeyUnknown},
		"another connection":          {func(_ *stage, in *decision.Input) { in.Exporter = nonce(32) }, nil, denial.ChannelBinding},
		"another challenge":           {func(_ *stage, in *decision.Input) { in.Challenge = nonce(32) }, nil, denial.ChallengeMismatch},
		"a policy never signed":       {func(_ *stage, in *decision.Input) { in.Appraisal.Hash = nonce(32) }, nil, denial.PolicyHashMismatch},
		"another version of a policy": {func(_ *stage, in *decision.Input) { in.Authorization.Version++ }, nil, denial.PolicyHashMismatch},
		"a policy no longer in force": {func(s *stage, _ *decision.Input) { s.publish(s.authorization("500s")) }, nil, denial.PolicyRollback},
		"a revocation kept quiet":     {func(s *stage, _ *decision.Input) { s.revoke(record.CauseInitiator, robotURI) }, nil, denial.LogInconsistent},
		"a revocation made up":        {func(_ *stage, in *decision.Input) { in.Revoked = []uint64{3} }, nil, denial.LogInconsistent},
		"dated long before its entry": {func(s *stage, _ *decision.Input) { s.Advance(time.Hour) }, nil, denial.EvidenceStale},
		"a host approved anew":        {func(s *stage, _ *decision.Input) { s.approve() }, nil, denial.NotEnrolled},
		"dated after its entry":       {func(_ *stage, in *decision.Input) { in.Time += 3600 }, nil, denial.NotYetValid},
		"dated before its challenge":  {func(_ *stage, in *decision.Input) { in.Time = in.Challenged - 1 }, nil, denial.NotYetValid},
		"by another issuer":           {func(_ *stage, in *decision.Input) { in.Issuer += "/" }, nil, denial.IdentityConflict},
		"other PCRs than the policy in force wants": {func(s *stage, in *decision.Input) {
			text := strings.Replace(s.Appraisal(), "bind = [4, 7, 11]", "bind = [0, 4, 7]", 1)
			doc := must(firmwarepolicy.ParseTOML([]byte(text)))(s)
			s.publish(text)
			hash := doc.Hash()
			in.Appraisal = decision.Policy{ID: doc.ID(), Version: doc.Version(), Hash: hash[:]}
		}, nil, denial.KeyBinding},
		"a longer life than decided": {func(*stage, *decision.Input) {}, func(c *artifact.Claims) { c.Expires += 60 }, denial.LogInconsistent},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			m, _ := s.permit()
			claims, _, err := artifact.Inspect(m.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			wantProved(t, s.verify(s.export(audit.Query{})))
			s.tick()
			index := s.forge(&claims, func(in *decision.Input) { c.edit(s, in) }, c.late)
			r := s.verify(s.export(audit.Query{}))
			wantRefuted(t, r, c.want)
			if f := finding(t, r, index); f.Verdict != audit.Refuted || f.Code != c.want.Code() {
				t.Errorf("the forged entry is %s: %s", f.Verdict, f.Why)
			}
		})
	}
}
