package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
)

func TestParseQuery(t *testing.T) {
	id := strings.Repeat("0a", 16)
	for text, want := range map[string]*audit.Query{
		"":                                 {},
		"from=3":                           {From: 3},
		"from=3&to=9":                      {From: 3, To: 9},
		"to=9":                             {To: 9},
		"execution=" + id:                  {Execution: bytes.Repeat([]byte{10}, 16)},
		"from=9&to=9":                      nil,
		"to=0":                             nil,
		"from=03":                          nil,
		"from=-1":                          nil,
		"from=x":                           nil,
		"from=":                            nil,
		"from=1&from=2":                    nil,
		"until=3":                          nil,
		"from=18446744073709551616":        nil,
		"execution=" + id[2:]:              nil,
		"execution=":                       nil,
		"execution=" + strings.ToUpper(id): nil,
		"execution=" + id + "&from=1":      nil,
		"execution=" + id + "&host=h":      nil,
		"disclose=name":                    {Disclose: []string{"name"}},
		"from=3&disclose=name,team":        {From: 3, Disclose: []string{"name", "team"}},
		"host=h&disclose=name":             {Host: "h", Disclose: []string{"name"}},
		"disclose=team,name":               nil,
		"disclose=name,name":               nil,
		"disclose=Name":                    nil,
		"disclose=":                        nil,
	} {
		v := must(url.ParseQuery(text))(t)
		got, err := audit.ParseQuery(v)
		if want == nil {
			if !denial.Is(err, denial.RequestLimit) {
				t.Errorf("%q: got %v, want %s", text, err, denial.RequestLimit)
			}
		} else if err != nil || got.From != want.From || got.To != want.To || !bytes.Equal(got.Execution, want.Execution) ||
			got.Host != want.Host || !slices.Equal(got.Disclose, want.Disclose) {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
}

func TestBuildRefusesARangeThatTheHeadDoesNotCover(t *testing.T) {
	s := newStage(t)
	head := s.Tree.Head().Head
	for _, q := range []audit.Query{{From: head.Size}, {From: 5, To: 5}, {To: head.Size + 1}} {
		if _, err := audit.Build(s.Ctx, s.Tree, s.Issuer, q); !denial.Is(err, denial.RequestLimit) {
			t.Errorf("%+v: got %v", q, err)
		}
	}
}

// lossy is a log that has lost some of its data.
type lossy struct {
	audit.Log
	lost map[statement.Digest]bool
	fail error
}

func (l lossy) Blob(ctx context.Context, d statement.Digest) ([]byte, bool, error) {
	if l.fail != nil || l.lost[d] {
		return nil, false, l.fail
	}
	return l.Log.Blob(ctx, d)
}

func TestBuildFailsWithItsLog(t *testing.T) {
	s := newStage(t)
	s.permit()
	broken := errors.New("broken")
	if _, err := audit.Build(s.Ctx, lossy{Log: s.Tree, fail: broken}, s.Issuer, audit.Query{}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// P23, T26: what the issuer no longer has is a gap that the bundle names, and no artifact is proved without it.
func TestP23_LostEvidenceIsAGap(t *testing.T) {
	s := newStage(t)
	m, _ := s.permit()
	claims, digest, err := artifact.Inspect(m.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	lost := lossy{Log: s.Tree, lost: map[statement.Digest]bool{statement.Digest(claims.Environment.Evidence.Value): true}}
	b := must(audit.Build(s.Ctx, lost, s.Issuer, audit.Query{}))(t)
	defer b.Close()
	var raw bytes.Buffer
	if err := b.Write(s.Ctx, &raw); err != nil {
		t.Fatal(err)
	}
	r := s.verify(raw.Bytes())
	if r.Verdict != audit.Unchecked || !denial.Is(r.Err(), denial.NoEvidence) {
		t.Fatalf("got %s, %v\n%s", r.Verdict, r.Err(), r.Text())
	}
	if f := finding(t, r, m.Index); f.Verdict != audit.Unchecked || len(r.Lacks) != 1 || r.Lacks[0].Index != m.Index || r.Lacks[0].Part != "evidence" || r.Lacks[0].Reason == "" {
		t.Errorf("got %+v, gaps %+v", f, r.Lacks)
	}
	if !strings.Contains(r.Text(), "gap: entry") {
		t.Errorf("the gap is not told:\n%s", r.Text())
	}
	f := unpack(t, raw.Bytes())
	wantRefuted(t, s.verify(s.reseal(f, func(m *audit.Manifest) { m.Lacks = m.Lacks[:0] })), denial.NoEvidence)
	_ = digest
}

func TestRangeBringsItsContext(t *testing.T) {
	s := newStage(t)
	permits, _ := s.story()
	from := permits[1].Index
	r := s.verify(s.export(audit.Query{From: from}))
	wantProved(t, r)
	if f := finding(t, r, from); f.Verdict != audit.Proved {
		t.Errorf("the permit is %s: %s", f.Verdict, f.Why)
	}
	if !strings.Contains(strings.Join(r.Limits, "\n"), "part of") {
		t.Errorf("that it is a part is not told: %q", r.Limits)
	}
	// A range that begins between a permit and its start cannot show all, and says so.
	r = s.verify(s.export(audit.Query{From: permits[0].Index + 1, To: permits[0].Index + 5}))
	wantProved(t, r)
	if f := finding(t, r, permits[0].Index+1); f.Verdict != audit.Unchecked {
		t.Errorf("the start is %s", f.Verdict)
	}
	// Every range verifies, wherever it cuts acts, chains and batches.
	size := s.Tree.Head().Size
	for range 20 {
		from := rand.Uint64N(size)
		to := from + 1 + rand.Uint64N(size-from)
		if r := s.verify(s.export(audit.Query{From: from, To: to})); r.Verdict != audit.Proved {
			t.Fatalf("range %d to %d:\n%s", from, to, r.Text())
		}
	}
}

func TestExecutionBundle(t *testing.T) {
	s := newStage(t)
	permits, requests := s.story()
	m, c := s.permitAgain()
	s.run(m, 2)
	_, denied, err := s.ask(asking{edit: func(r *artifact.RequestClaims) { r.Lifetime, r.Execution.ID = 3000, c.Execution.ID }})
	if !denial.Is(err, denial.LifetimeTooLong) {
		t.Fatal(err)
	}
	r := s.verify(s.export(audit.Query{Execution: c.Execution.ID}))
	wantProved(t, r)
	var kinds []string
	for _, f := range r.Statements {
		if f.Index >= m.Index {
			kinds = append(kinds, f.Kind+" "+f.Event)
		}
	}
	if want := []string{"artifact ", "record execution start", "record execution end", "record denial"}; !slices.Equal(kinds, want) {
		t.Errorf("got %q, want %q", kinds, want)
	}
	if r.Execution == "" || denied == nil || len(permits) != len(requests) {
		t.Error("the report does not name the execution")
	}
	for _, f := range r.Statements {
		if f.Kind == "artifact" && f.Index != m.Index {
			t.Errorf("entry %d is of another execution", f.Index)
		}
	}
	// of an execution that nobody has heard of there is nothing but context
	r = s.verify(s.export(audit.Query{Execution: nonce(16)}))
	wantProved(t, r)
}

// permitAgain gets an artifact under the policies of the end of the story.
func (s *stage) permitAgain() (m *issuer.Minted, c *artifact.RequestClaims) {
	s.Helper()
	m, c, err := s.ask(asking{edit: func(r *artifact.RequestClaims) { r.Lifetime = 60 }})
	if err != nil {
		s.Fatal(err)
	}
	return m, c
}

func TestWrongTrustIsRefused(t *testing.T) {
	s := newStage(t)
	s.permit()
	raw := s.export(audit.Query{})
	other := newStage(t)
	key := func(p artifact.Purpose, k statement.Key) func(*artifact.Trust) {
		return func(t *artifact.Trust) {
			for i := range t.Keys {
				if t.Keys[i].Purpose == p {
					t.Keys[i].Key = k
				}
			}
		}
	}
	retired := func(p artifact.Purpose) func(*artifact.Trust) {
		return func(t *artifact.Trust) {
			for i := range t.Keys {
				if t.Keys[i].Purpose == p {
					t.Keys[i].NotAfter = s.Now().Add(-time.Hour)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		edit func(*artifact.Trust)
		want denial.Reason
	}{
		"another genesis":      {func(t *artifact.Trust) { t.Genesis[0] ^= 1 }, denial.KeyUnknown},
		"no genesis":           {func(t *artifact.Trust) { t.Genesis = statement.Digest{} }, denial.KeyUnknown},
		"another artifact key": {key(artifact.PurposeArtifact, issuertest.NewKey(t).Key()), denial.KeyUnknown},
		"another record key":   {key(artifact.PurposeRecord, issuertest.NewKey(t).Key()), denial.KeyUnknown},
		"another log key":      {key(artifact.PurposeLog, issuertest.NewKey(t).Key()), denial.KeyUnknown},
		"artifact key retired": {retired(artifact.PurposeArtifact), denial.KeyOutsideValidity},
		"record key retired":   {retired(artifact.PurposeRecord), denial.KeyOutsideValidity},
		"log key retired":      {retired(artifact.PurposeLog), denial.KeyOutsideValidity},
		"another issuer":       {func(t *artifact.Trust) { t.Issuer = "https://other.example" }, denial.IdentityConflict},
		"another log":          {func(t *artifact.Trust) { t.Log = "https://other.example/log" }, denial.IdentityConflict},
		"expired":              {func(t *artifact.Trust) { t.Expires = s.Now() }, denial.PolicyExpired},
		"another TPM vendor":   {func(t *artifact.Trust) { t.TPMRoots = other.trust().TPMRoots }, denial.EKUntrusted},
		"another company":      {func(t *artifact.Trust) { *t = *other.trust() }, denial.KeyUnknown},
		"a broken TPM root": {func(t *artifact.Trust) {
			t.TPMRoots = []artifact.TPMRoot{{PEM: "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"}}
		}, denial.EKUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			trust := s.trust()
			c.edit(trust)
			r := must(audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()}))(t)
			wantRefuted(t, r, c.want)
		})
	}
	r := must(audit.Verify(s.Ctx, bytes.NewReader(raw), nil, audit.Options{Now: s.Now()}))(t)
	wantRefuted(t, r, denial.KeyUnknown)
	r = must(audit.Verify(s.Ctx, bytes.NewReader(raw), s.trust(), audit.Options{}))(t)
	wantRefuted(t, r, denial.ClockUntrusted)
}

// Without TPM roots everything but the EK certificates is checked, and the report says so.
func TestTrustWithoutRoots(t *testing.T) {
	s := newStage(t)
	s.permit()
	trust := s.trust()
	trust.TPMRoots = nil
	r := must(audit.Verify(s.Ctx, bytes.NewReader(s.export(audit.Query{})), trust, audit.Options{Now: s.Now()}))(t)
	wantProved(t, r)
	if !strings.Contains(r.Text(), "no TPM roots") {
		t.Errorf("the limit is not told:\n%s", r.Text())
	}
}

// T25: nothing but bytes is needed, and the verdict is the same when the issuer is gone.
func TestT25_VerdictWithoutTheIssuer(t *testing.T) {
	s := newStage(t)
	s.story()
	raw, trust := s.export(audit.Query{}), s.trust()
	before := s.verify(raw).Text()
	if err := s.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	r := must(audit.Verify(context.Background(), bytes.NewReader(raw), trust, audit.Options{Now: s.Now()}))(t)
	if got := r.Text(); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
}

func TestAnyChangedByteIsRefused(t *testing.T) {
	s := newStage(t)
	s.permit()
	raw := s.export(audit.Query{})
	n := 2000
	if testing.Short() {
		n = 200
	}
	src := rand.New(rand.NewPCG(1, 2))
	for range n {
		at := src.IntN(len(raw))
		bad := bytes.Clone(raw)
		bad[at] ^= 1 << src.IntN(8)
		if r := s.verify(bad); r.Verdict != audit.Refuted || r.Err() == nil {
			t.Fatalf("byte %d changed: %s", at, r.Verdict)
		}
	}
	for _, bad := range [][]byte{nil, raw[:len(raw)-1], raw[:len(raw)-512], raw[:len(raw)/2], append(bytes.Clone(raw), 0), bytes.Repeat(raw, 2)} {
		if r := s.verify(bad); r.Verdict != audit.Refuted {
			t.Fatalf("%d of %d bytes: %s", len(bad), len(raw), r.Verdict)
		}
	}
}

func TestOddMembersAreRefused(t *testing.T) {
	s := newStage(t)
	good := unpack(t, s.export(audit.Query{}))
	for name, c := range map[string]struct {
		path string
		size int
		want denial.Reason
	}{
		"an absolute path":      {"/etc/passwd", 1, denial.NotCanonical},
		"a path upwards":        {"../keys", 1, denial.NotCanonical},
		"a name of its own":     {"README", 1, denial.NotCanonical},
		"an index with a sign":  {"statements/-000000000000001.scitt", 1, denial.NotCanonical},
		"a directory's name":    {"statements", 0, denial.NotCanonical},
		"too large a statement": {audit.NameStatement(3), 80 << 10, denial.StructureLimit},
		"too large a capsule":   {audit.NameCapsule(statement.Digest{}), 9<<20 + 1, denial.StructureLimit},
	} {
		t.Run(name, func(t *testing.T) {
			f := maps.Clone(good)
			f[c.path] = make([]byte, c.size)
			wantRefuted(t, s.verify(f.pack(t)), c.want)
		})
	}
}

type failing struct{ io.Reader }

func (failing) Read([]byte) (int, error) { return 0, os.ErrClosed }

// A fault of this machine is no verdict on the bundle.
func TestFaultsAreNotVerdicts(t *testing.T) {
	s := newStage(t)
	raw := s.export(audit.Query{})
	if _, err := audit.Verify(s.Ctx, failing{}, s.trust(), audit.Options{Now: s.Now()}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(s.Ctx)
	cancel()
	if _, err := audit.Verify(ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.Now()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	if _, err := audit.Verify(s.Ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.Now()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := audit.Build(s.Ctx, s.Tree, s.Issuer, audit.Query{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestReportForMachines(t *testing.T) {
	s := newStage(t)
	s.permit()
	var back struct {
		Verdict    string
		Statements []struct{ Verdict, Kind string }
		Counts     []struct{ N uint64 }
		Head       struct{ Size uint64 }
	}
	out := must(json.Marshal(s.verify(s.export(audit.Query{}))))(t)
	if err := json.Unmarshal(out, &back); err != nil || back.Verdict != "proved" || len(back.Statements) != int(back.Head.Size) || len(back.Counts) == 0 {
		t.Errorf("got %s, %v", out, err)
	}
	var none *audit.Report
	if !denial.Is(none.Err(), denial.Internal) || !denial.Is((&audit.Report{}).Err(), denial.Internal) {
		t.Error("a report of nothing allows")
	}
}

// FuzzVerify changes a bundle from outside, and from inside: a member is changed and the issuer itself signs the manifest
// anew. Nothing but the bundle as it was is proved.
func FuzzVerify(f *testing.F) {
	s := newStage(f)
	m, _ := s.permit()
	s.run(m, 1)
	s.refuse(denial.SecureBootOff, asking{boot: bootlog.New(bootlog.Options{NoSecureBoot: true})})
	raw, trust := s.export(audit.Query{}), s.trust()
	members := unpack(f, raw)
	names := slices.Sorted(maps.Keys(members))
	for n := range names {
		f.Add(uint16(n), uint32(40), uint8(1), uint8(n%4), []byte(nil))
	}
	f.Add(uint16(0), uint32(0), uint8(0), uint8(0), raw)
	f.Add(uint16(0), uint32(0), uint8(0), uint8(4), raw[:1024])
	f.Fuzz(func(t *testing.T, member uint16, at uint32, change, how uint8, data []byte) {
		bundle, b := maps.Clone(members), slices.Clone(members[names[int(member)%len(names)]])
		name, same := names[int(member)%len(names)], change == 0
		switch at := int(at) % (len(b) + 1); {
		case how%4 == 3 && data != nil:
			same, b = bytes.Equal(data, b), data
		case how%4 == 2:
			b, same = append(b[:at:at], append([]byte{change}, b[at:]...)...), false
		case at < len(b):
			b[at] ^= change
		default:
			same = true
		}
		bundle[name] = b
		var changed []byte
		switch {
		case how >= 128:
			changed = data
			same = bytes.Equal(data, raw)
		case how%2 == 1 && !strings.HasPrefix(name, "manifest."):
			here := &stage{World: s.World.For(t)}
			changed = here.reseal(bundle, nil)
		default:
			changed = bundle.pack(t)
		}
		a, err := audit.Tell(context.Background(), bytes.NewReader(changed), trust, audit.Options{Now: s.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if (a.Report.Err() == nil) != same {
			t.Errorf("%s changed at %d: %s, %v", name, at, a.Report.Verdict, a.Report.Err())
		}
		_ = a.Report.Text()
		_ = page(t, a)
	})
}
