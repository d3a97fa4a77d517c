package artifact

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
)

func TestStatusRoundTrip(t *testing.T) {
	k := newKit(t)
	l := k.statusList()
	l.Values = make([]StatusValue, 7)
	for i := range l.Values {
		l.Values[i] = StatusValue(i * 2)
	}
	raw := k.statusToken(l)
	s, err := VerifyStatus(raw, k.trust, t0, issued)
	if err != nil {
		t.Fatal(err)
	}
	if s.URI() != listURI || s.IssuedAt() != issued || s.digest != statement.DigestOf(raw) {
		t.Errorf("got %s at %d", s.URI(), s.IssuedAt())
	}
	for i, want := range l.Values {
		if got, err := s.Value(StatusRef{uint64(i), listURI}); err != nil || got != want {
			t.Errorf("entry %d: got %d, %v, want %d", i, got, err, want)
		}
	}
	for name, ref := range map[string]StatusRef{"out of range": {8, listURI}, "far out of range": {1 << 63, listURI}, "another list": {0, listURI + "0"}, "no list": {}} {
		_, err := s.Value(ref)
		if !denial.Is(err, denial.RevocationUnknown) {
			t.Errorf("%s: got %v, want 806", name, err)
		}
	}
	_, err = (*Status)(nil).Value(StatusRef{0, listURI})
	refused(t, err, denial.RevocationUnknown)
	_, err = (&Status{}).Value(StatusRef{})
	refused(t, err, denial.RevocationUnknown)
}

// TestStatusRefuses breaks one thing of a valid token at a time.
func TestStatusRefuses(t *testing.T) {
	k := newKit(t)
	make := func(f func(*statusClaims)) []byte {
		l := k.statusList()
		packed, err := packStatus(l.Values)
		if err != nil {
			t.Fatal(err)
		}
		c := statusClaims{Issuer: l.Issuer, URI: l.URI, Expires: l.Expires, IssuedAt: l.IssuedAt, Profile: StatusProfile, List: statusBody{statusBits, packed}, TTL: l.TTL}
		f(&c)
		return k.sign(k.status, statement.StatusList, issuerURI, listURI, payload(t, &c))
	}
	good := make(func(*statusClaims) {})
	body := statusPayload(t, good)
	patched := func(label int64, raw string) []byte {
		return k.sign(k.status, statement.StatusList, issuerURI, listURI, patch(t, body, label, raw))
	}
	now := uint64(t0.Unix())
	rows := []struct {
		name string
		raw  []byte
		code denial.Reason // zero: accepted
	}{
		{"valid", good, 0},
		{"as old as the trust file accepts", make(func(c *statusClaims) { c.IssuedAt, c.TTL = now-60, 900 }), 0},
		{"P14 older", make(func(c *statusClaims) { c.IssuedAt, c.TTL = now-61, 900 }), denial.RevocationUnknown},
		{"older than its own ttl", make(func(c *statusClaims) { c.TTL = 9 }), denial.RevocationUnknown},
		{"at its exp", make(func(c *statusClaims) { c.Expires = now }), denial.RevocationUnknown},
		{"as far ahead as clocks may be apart", make(func(c *statusClaims) { c.IssuedAt = now + 60 }), 0},
		{"from the future", make(func(c *statusClaims) { c.IssuedAt = now + 61 }), denial.RevocationUnknown},
		{"empty", nil, denial.WrongType},
		{"too long", append(bytes.Clone(good), bytes.Repeat([]byte{0}, maxStatus)...), denial.StructureLimit},
		{"one byte changed", flip(good, len(good)-1), denial.SignatureInvalid},
		{"artifact key", k.sign(k.artifact, statement.StatusList, issuerURI, listURI, body), denial.WrongType},
		{"unknown key", k.sign(k.person, statement.StatusList, issuerURI, listURI, body), denial.KeyUnknown},
		{"another kind", k.sign(k.status, statement.Record, issuerURI, listURI, body), denial.WrongType},
		{"header of another list", k.sign(k.status, statement.StatusList, issuerURI, listURI+"0", body), denial.IdentityConflict},
		{"header of another issuer", k.sign(k.status, statement.StatusList, personURI, listURI, body), denial.IdentityConflict},
		{"another issuer", k.sign(k.status, statement.StatusList, personURI, listURI, patch(t, body, 1, text(personURI))), denial.IdentityConflict},
		{"C25 iat absent", patched(claimIat, ""), denial.ClaimAbsent},
		{"C25 exp null", patched(claimExp, "f6"), denial.ClaimAbsent},
		{"C26 iat text", patched(claimIat, "6131"), denial.TimeMalformed},
		{"C32 another profile", patched(265, text(Profile)), denial.UnsupportedVersion},
		{"C32 unknown claim", patched(10, "00"), denial.UnsupportedVersion},
		{"two bits an entry", make(func(c *statusClaims) { c.List.Bits = 2 }), denial.UnsupportedVersion},
		{"an issuer that is no URI", make(func(c *statusClaims) { c.Issuer = "issuer" }), denial.ClaimAbsent},
		{"a list that is no URI", make(func(c *statusClaims) { c.URI = "list" }), denial.ClaimAbsent},
		{"the longest ttl", make(func(c *statusClaims) { c.TTL = maxTime }), 0},
		{"an epoch of the log", make(func(c *statusClaims) { c.Since = maxTime }), 0},
		{"an epoch at no time", make(func(c *statusClaims) { c.Since = maxTime + 1 }), denial.TimeMalformed},
		{"a longer ttl", make(func(c *statusClaims) { c.TTL = maxTime + 1 }), denial.ClaimAbsent},
		{"a key change without a number", make(func(c *statusClaims) { c.Keys = &KeyPin{Digest: fill(32, 1)} }), denial.PayloadForm},
		{"a key change with half a digest", make(func(c *statusClaims) { c.Keys = &KeyPin{Change: 1, Digest: fill(16, 1)} }), denial.PayloadForm},
		{"a key change that is not at hand", make(func(c *statusClaims) { c.Keys = &KeyPin{Change: 1, Digest: fill(32, 1)} }), denial.RevocationUnknown},
		{"no ttl", make(func(c *statusClaims) { c.TTL = 0 }), denial.ClaimAbsent},
		{"not zlib", make(func(c *statusClaims) { c.List.List = []byte("list") }), denial.PayloadForm},
		{"zlib cut short", make(func(c *statusClaims) { c.List.List = c.List.List[:len(c.List.List)-1] }), denial.PayloadForm},
		{"zlib with a wrong checksum", make(func(c *statusClaims) { c.List.List[len(c.List.List)-1] ^= 1 }), denial.PayloadForm},
		{"bytes behind zlib", make(func(c *statusClaims) { c.List.List = append(c.List.List, 0) }), denial.TrailingData},
		{"a list that inflates too far", make(func(c *statusClaims) { c.List.List = deflated(t, maxStatusList+1) }), denial.StructureLimit},
		{"the longest list", make(func(c *statusClaims) { c.List.List = deflated(t, maxStatusList) }), 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			s, err := VerifyStatus(r.raw, k.trust, t0, 0)
			if r.code == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, r.code)
			if s != nil {
				t.Error("a refused list was returned")
			}
		})
	}
	_, err := VerifyStatus(good, nil, t0, 0)
	refused(t, err, denial.KeyUnknown)
	_, err = VerifyStatus(good, &Trust{}, t0, 0)
	refused(t, err, denial.KeyUnknown)
	_, err = VerifyStatus(good, k.trust, time.Time{}, 0)
	refused(t, err, denial.RevocationUnknown)
}

func statusPayload(t *testing.T, raw []byte) []byte {
	t.Helper()
	env, err := statement.Decode(raw, maxStatus)
	if err != nil {
		t.Fatal(err)
	}
	return env.Payload()
}

func deflated(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestP14_OlderListIsRollback: the caller passes the iat of the newest list that it has accepted.
func TestP14_OlderListIsRollback(t *testing.T) {
	k := newKit(t)
	raw := k.statusToken(k.statusList())
	if _, err := VerifyStatus(raw, k.trust, t0, issued); err != nil {
		t.Fatalf("the same list again: %v", err)
	}
	_, err := VerifyStatus(raw, k.trust, t0, issued+1)
	refused(t, err, denial.StateRollback)
}

func TestStatusKeyOutsideValidity(t *testing.T) {
	k := newKit(t)
	raw := k.statusToken(k.statusList())
	k.trust.Keys[2].NotAfter = time.Unix(int64(issued), 0)
	_, err := VerifyStatus(raw, k.trust, t0, 0)
	refused(t, err, denial.KeyOutsideValidity)
}

func TestRevocationAgeIsBoundedWhateverTheTrustFileSays(t *testing.T) {
	k := newKit(t)
	k.trust.RevocationAge = 24 * time.Hour
	l := k.statusList()
	l.Expires, l.TTL = issued+7200, 7200
	_, err := VerifyStatus(k.statusToken(l), k.trust, time.Unix(int64(issued), 0).Add(MaxRevocationAge+time.Second), 0)
	refused(t, err, denial.RevocationUnknown)
}

// TestRevocationIsRefusedForAnotherList: a fresh list that is not the one the artifact names shows nothing.
func TestRevocationIsRefusedForAnotherList(t *testing.T) {
	k := newKit(t)
	l := k.statusList()
	l.URI += "0"
	s, err := VerifyStatus(k.statusToken(l), k.trust, t0, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := k.want()
	want.Status = s
	_, err = Verify(k.mint(k.claims()), want)
	refused(t, err, denial.RevocationUnknown)
}

func TestSignStatusRefuses(t *testing.T) {
	k := newKit(t)
	for name, f := range map[string]func(*StatusList){
		"a value of five bits": func(l *StatusList) { l.Values[0] = 16 },
		"too many entries":     func(l *StatusList) { l.Values = make([]StatusValue, MaxStatuses+1) },
		"no time":              func(l *StatusList) { l.IssuedAt = 0 },
		"no ttl":               func(l *StatusList) { l.TTL = 0 },
	} {
		l := k.statusList()
		f(&l)
		if _, err := SignStatus(t.Context(), k.status, l); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// corpus returns a file of the corpus, and skips without it.
func corpus(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(need.Corpus(t), path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCorpusStatusLists inflates the lists of draft-ietf-oauth-status-list and reads their entries: 1, 2 and, by the same
// function, 4 bits an entry.
func TestCorpusStatusLists(t *testing.T) {
	files := map[string]uint64{"status_list_encoding_cbor.md": 1, "status_list_encoding2_cbor.md": 2}
	arrays := regexp.MustCompile(`byte_array = \[(.*)\]`)
	encoded := regexp.MustCompile(`encoded:\s*([0-9a-f]+)`)
	for name, bits := range files {
		text := string(corpus(t, "statuslist/draft-status-list/"+name))
		want, err := hex.DecodeString(strings.NewReplacer("0x", "", ",", "", " ", "").Replace(arrays.FindStringSubmatch(text)[1]))
		if err != nil {
			t.Fatal(err)
		}
		cbor, err := hex.DecodeString(encoded.FindStringSubmatch(text)[1])
		if err != nil {
			t.Fatal(err)
		}
		_, lst, ok := bytes.Cut(cbor, []byte("\x63lst")) // then the head of a byte string shorter than 24
		if !ok || lst[0]>>5 != 2 || int(lst[0]&0x1f) != len(lst)-1 {
			t.Fatalf("%s: no lst", name)
		}
		got, err := inflate(lst[1:])
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: got %x, %v, want %x", name, got, err, want)
		}
		checkEntries(t, got, bits)
	}
}

// checkEntries compares entry with the figures of the draft, which show the statuses of both lists.
func checkEntries(t *testing.T, list []byte, bits uint64) {
	t.Helper()
	want := map[uint64][]uint8{
		1: {1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1},
		2: {1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3},
	}[bits]
	for i, w := range want {
		if got, ok := entry(list, bits, uint64(i)); !ok || got != w {
			t.Errorf("%d bits, entry %d: got %d, want %d", bits, i, got, w)
		}
	}
	if _, ok := entry(list, bits, uint64(len(want))); ok {
		t.Errorf("%d bits: an entry out of range", bits)
	}
}

// TestFourBitLayout: the first of two entries stands in the low bits, as the draft's figure for two bits shows.
func TestFourBitLayout(t *testing.T) {
	packed, err := packStatus([]StatusValue{1, 2, 15})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := inflate(packed); err != nil || !bytes.Equal(got, []byte{0x21, 0x0f}) {
		t.Errorf("got %x, %v, want 210f", got, err)
	}
}

// A trust file that pins a key change stands for all changes up to it, whether they were followed or not.
func TestStatusAndThePinnedKeyChange(t *testing.T) {
	k := newKit(t)
	trust := *k.trust
	trust.KeyPin = &KeyPin{Change: 4, Digest: fill(32, 4)}
	for name, c := range map[string]struct {
		told *KeyPin
		code denial.Reason // zero: accepted
	}{
		"no change":                 {nil, 0},
		"an earlier change":         {&KeyPin{Change: 3, Digest: fill(32, 9)}, 0},
		"the pinned change":         {&KeyPin{Change: 4, Digest: fill(32, 4)}, 0},
		"another one in its place":  {&KeyPin{Change: 4, Digest: fill(32, 9)}, denial.LogInconsistent},
		"a change that was missed":  {&KeyPin{Change: 5, Digest: fill(32, 5)}, denial.RevocationUnknown},
		"one that follows on it":    {&KeyPin{Change: 6, Digest: fill(32, 4)}, denial.RevocationUnknown},
		"the first change of all":   {&KeyPin{Change: 1, Digest: fill(32, 1)}, 0},
		"a change of all ones":      {&KeyPin{Change: 1<<64 - 1, Digest: fill(32, 4)}, denial.RevocationUnknown},
		"the change before, pinned": {&KeyPin{Change: 3, Digest: fill(32, 4)}, 0},
	} {
		l := k.statusList()
		l.Keys = c.told
		_, err := VerifyStatus(k.statusToken(l), &trust, t0, 0)
		if c.code == 0 && err != nil || c.code != 0 && !denial.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
}

// C16: whoever signs a status list knows that it is one, and the one that its header names.
func TestCheckStatusPayload(t *testing.T) {
	k := newKit(t)
	body := statusPayload(t, k.statusToken(k.statusList()))
	header := statement.Claims{Issuer: issuerURI, Subject: listURI}
	for name, c := range map[string]struct {
		payload []byte
		header  func(*statement.Claims)
		code    denial.Reason // zero: accepted
	}{
		"a status list":      {payload: body},
		"of another issuer":  {body, func(c *statement.Claims) { c.Issuer = personURI }, denial.WrongType},
		"of another list":    {body, func(c *statement.Claims) { c.Subject += "0" }, denial.WrongType},
		"with a time":        {body, func(c *statement.Claims) { c.IssuedAt = 1 }, denial.WrongType},
		"claims":             {payload: mustEncode(t, k.claims()), code: denial.UnsupportedVersion},
		"not one encoding":   {payload: append(bytes.Clone(body), 0), code: denial.TrailingData},
		"without a ttl":      {payload: patch(t, body, 65534, "00"), code: denial.ClaimAbsent},
		"of another version": {payload: patch(t, body, 265, text(Profile)), code: denial.UnsupportedVersion},
	} {
		h := header
		if c.header != nil {
			c.header(&h)
		}
		err := CheckStatusPayload(c.payload, h)
		if c.code == 0 && err != nil || c.code != 0 && !denial.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
}

func TestTheLongestStatusList(t *testing.T) {
	packed, err := packStatus(make([]StatusValue, MaxStatuses))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := inflate(packed); err != nil || len(list) != maxStatusList {
		t.Errorf("got %d bytes, %v", len(list), err)
	}
	_, err = packStatus(make([]StatusValue, MaxStatuses+1))
	refused(t, err, denial.StructureLimit)
}

// P20: an artifact that was logged before the log was restored from a backup is void.
func TestP20_ArtifactsOfBeforeAnEpoch(t *testing.T) {
	k := newKit(t)
	raw := k.mint(k.claims()) // logged at issued+1
	for since, want := range map[uint64]denial.Reason{0: 0, issued + 1: 0, issued + 2: denial.ArtifactRevoked} {
		l := k.statusList()
		l.Since = since
		status, err := VerifyStatus(k.statusToken(l), k.trust, t0, 0)
		if err != nil {
			t.Fatal(err)
		}
		w := k.want()
		w.Status = status
		a, err := Verify(raw, w)
		if want == 0 && (err != nil || a == nil) || want != 0 && (!denial.Is(err, want) || a != nil || denial.Of(err).Stage != denial.StageGateRevocation) {
			t.Errorf("restored %d s after it was issued: got %v, want %s", int64(since-issued), err, want)
		}
	}
	if err := (*Status)(nil).InEpoch(0); err != nil {
		t.Errorf("no list says that a log was restored: %v", err)
	}
}
