package ceremony

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
)

// pkcs11 is a real token.
type pkcs11 struct{ *hsm.Token }

func (p pkcs11) Make(ctx context.Context, purpose string, replaces statement.Thumbprint) (record.Birth, error) {
	use, err := hsm.ParsePurpose(purpose)
	if err != nil {
		return record.Birth{}, err
	}
	key, err := p.Create(ctx, use)
	if err != nil {
		return record.Birth{}, err
	}
	return p.Read(ctx, key.Thumbprint())
}

func (p pkcs11) Read(ctx context.Context, key statement.Thumbprint) (record.Birth, error) {
	a, err := p.Attributes(ctx, key)
	return a.Birth(), err
}

// TestAWholeCeremonyVerifiesOffline holds a ceremony on SoftHSM, and then verifies what is left of it: two files and the
// keys of the participants.
func TestAWholeCeremonyVerifiesOffline(t *testing.T) {
	soft := softhsm.New(t)
	token, err := hsm.Open(context.Background(), hsm.Config{Module: soft.Module, Token: soft.Label, PIN: hsm.PINFromFile(soft.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	people := cast(t)
	src := source(t, people, steps)
	held := hold(t, parse(t, src), people, pkcs11{token}, nil, 8)
	file, err := held.Transcript().Encode()
	if err != nil {
		t.Fatal(err)
	}

	script := parse(t, src)
	given := map[string]statement.Key{}
	for _, p := range people {
		given[p.uri] = p.Key()
	}
	if err := script.Trust(given); err != nil {
		t.Fatal(err)
	}
	transcript, err := DecodeTranscript(file)
	if err != nil {
		t.Fatal(err)
	}
	st, err := Replay(script, transcript)
	if err != nil {
		t.Fatal(err)
	}
	births, err := st.Births()
	if err != nil || len(births) != 2 {
		t.Fatalf("%d births: %v", len(births), err)
	}
	digest := statement.DigestOf(file)
	for i, purpose := range []string{"artifact", "log"} {
		b := births[i]
		on, err := token.Attributes(context.Background(), b.Key.Thumbprint())
		if err != nil || on.Purpose.String() != purpose || b.Purpose != purpose {
			t.Errorf("born for %s, on the token for %s: %v", b.Purpose, on.Purpose, err)
		}
		if c := b.Ceremony; string(c.Script) != string(script.Digest[:]) || string(c.Transcript) != string(digest[:]) ||
			!slices.Equal(c.Persons, []string{"mailto:alice@example.org", "mailto:bob@example.org", "mailto:wendy@example.net"}) {
			t.Errorf("the birth says of its ceremony %+v", c)
		}
		if b.Attributes["CKA_EXTRACTABLE"] != "false" || b.Token["serial"] == "" || b.Token["module"] != soft.Module {
			t.Errorf("the birth says %v of the key, on %v", b.Attributes, b.Token)
		}
	}
}

// cheat is one thing that somebody changes in a ceremony that was held well.
type cheat struct {
	name   string
	change func(t *testing.T, c *held)
	reason denial.Reason
	saying string
}

// held is a finished ceremony, and who held it.
type held struct {
	script     *Script
	transcript Transcript
	people     []person
}

// entry returns what step n says.
func (h *held) entry(t *testing.T, n int) *Entry {
	t.Helper()
	env, err := statement.Decode(h.transcript[n-1][0], statement.MaxStatement)
	if err != nil {
		t.Fatal(err)
	}
	var e Entry
	if err := statement.Unmarshal(env.Payload(), &e); err != nil {
		t.Fatal(err)
	}
	return &e
}

// replace has everybody sign another entry for step n, over the transcript as it is up to there. The steps after it go.
func (h *held) replace(t *testing.T, n int, change func(e *Entry)) {
	t.Helper()
	e := h.entry(t, n)
	change(e)
	h.transcript[n-1] = h.sign(t, e, h.people...)
	h.transcript = h.transcript[:n]
}

func (h *held) sign(t *testing.T, e *Entry, people ...person) record.Bundle {
	t.Helper()
	d, err := (&State{script: h.script}).draft(e)
	if err != nil {
		t.Fatal(err)
	}
	return confirm(t, d, people...)
}

func cheats() []cheat {
	return []cheat{
		{"a step is left out", func(t *testing.T, h *held) { h.transcript = slices.Delete(h.transcript, 3, 4) },
			denial.DualControlMissing, "step 5 stands where step 4 belongs"},
		{"the first step is left out", func(t *testing.T, h *held) { h.transcript = h.transcript[1:] },
			denial.DualControlMissing, "step 2 stands where step 1 belongs"},
		{"a step is repeated", func(t *testing.T, h *held) { h.transcript = slices.Insert(h.transcript, 4, h.transcript[3]) },
			denial.DualControlMissing, "step 4 stands where step 5 belongs"},
		{"two steps are exchanged", func(t *testing.T, h *held) { h.transcript[3], h.transcript[4] = h.transcript[4], h.transcript[3] },
			denial.DualControlMissing, "step 5 stands where step 4 belongs"},
		{"a step is one of another transcript", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Previous = make([]byte, 32) })
		}, denial.DualControlMissing, "after another transcript"},
		{"an earlier step is confirmed anew", func(t *testing.T, h *held) {
			rest := slices.Clone(h.transcript[2:])
			h.replace(t, 2, func(e *Entry) { e.Time++ })
			h.transcript = append(h.transcript, rest...)
		}, denial.DualControlMissing, "step 3 was confirmed after another transcript"},
		{"a step goes on after the end", func(t *testing.T, h *held) { h.transcript = append(h.transcript, h.transcript[7]) },
			denial.DualControlMissing, "the ceremony is over"},
		{"a bit of a statement is altered", func(t *testing.T, h *held) {
			b := slices.Clone(h.transcript[3])
			b[1] = slices.Clone(b[1])
			b[1][len(b[1])-1] ^= 1
			h.transcript[3] = b
		}, denial.SignatureInvalid, ""},
		{"somebody unknown confirms", func(t *testing.T, h *held) {
			h.transcript[3] = h.sign(t, h.entry(t, 4), h.people[0], h.people[1], person{"", Witness, newSigner(t, false)})
		}, denial.KeyUnknown, ""},
		{"a custodian confirms twice and another not at all", func(t *testing.T, h *held) {
			h.transcript[3] = h.sign(t, h.entry(t, 4), h.people[0], h.people[0], h.people[2])
		}, denial.KeyAmbiguous, "twice"},
		{"the witness does not confirm", func(t *testing.T, h *held) { h.transcript[3] = h.transcript[3][:2] },
			denial.DualControlMissing, "lacks 1 of 3"},
		{"nobody confirms", func(t *testing.T, h *held) { h.transcript[3] = record.Bundle{} },
			denial.DualControlMissing, "nobody has confirmed"},
		{"two confirm different things", func(t *testing.T, h *held) {
			e := h.entry(t, 4)
			e.Time++
			h.transcript[3] = append(h.transcript[3][:2:2], h.sign(t, e, h.people[2])...)
		}, denial.WrongType, "something else"},
		{"a statement is of another kind", func(t *testing.T, h *held) {
			d, err := (&State{script: h.script}).draft(h.entry(t, 4))
			if err != nil {
				t.Fatal(err)
			}
			d.Kind = statement.Policy.String()
			h.transcript[3] = confirm(t, d, h.people...)
		}, denial.WrongType, ""},
		{"a step is signed for another issuer", func(t *testing.T, h *held) {
			d, err := (&State{script: h.script}).draft(h.entry(t, 4))
			if err != nil {
				t.Fatal(err)
			}
			d.Issuer = "https://other.example"
			h.transcript[3] = confirm(t, d, h.people...)
		}, denial.DualControlMissing, "names another issuer or script"},
		{"the script is changed midway", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Script = make([]byte, 32) })
		}, denial.DualControlMissing, "under another script"},
		{"another key is read back than was made", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Key.Key = newSigner(t, true).Key() })
		}, denial.HSMKeyPolicy, "another key or token"},
		{"another key is born than was made", func(t *testing.T, h *held) {
			h.replace(t, 6, func(e *Entry) { e.Key.Key = newSigner(t, true).Key() })
		}, denial.HSMKeyPolicy, "another key or token"},
		{"the key is on another token", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Key.Token["serial"] = "0002" })
		}, denial.HSMKeyPolicy, "another key or token"},
		{"the key is extractable", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Key.Attributes["CKA_EXTRACTABLE"] = "true" })
		}, denial.HSMKeyPolicy, "unfit: CKA_EXTRACTABLE"},
		{"an attribute is not read back", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { delete(e.Key.Attributes, "CKA_LOCAL") })
		}, denial.HSMKeyPolicy, "unfit: CKA_LOCAL"},
		{"the key may do more than sign", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Key.Attributes["usage"] = "sign,derive" })
		}, denial.HSMKeyPolicy, "unfit: usage"},
		{"an attribute stands there that nobody knows", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Key.Attributes["CKA_WRAP_WITH_TRUSTED"] = "false" })
		}, denial.HSMKeyPolicy, "does not know"},
		{"the key is extractable at its birth", func(t *testing.T, h *held) {
			h.replace(t, 6, func(e *Entry) { e.Key.Attributes["CKA_EXTRACTABLE"] = "true" })
		}, denial.HSMKeyPolicy, "unfit: CKA_EXTRACTABLE"},
		{"one key serves two purposes", func(t *testing.T, h *held) {
			key := h.entry(t, 2).Key.Key
			h.replace(t, 3, func(e *Entry) { e.Key.Key = key })
		}, denial.HSMKeyPolicy, "there has been before"},
		{"a custodian's key is passed off as the token's", func(t *testing.T, h *held) {
			h.replace(t, 2, func(e *Entry) { e.Key.Key = h.people[0].Key() })
		}, denial.HSMKeyPolicy, "there has been before"},
		{"the key is for another purpose", func(t *testing.T, h *held) {
			h.replace(t, 2, func(e *Entry) { e.Key.Purpose = "status" })
		}, denial.DualControlMissing, "another purpose"},
		{"a key is made with attributes that nobody has read back", func(t *testing.T, h *held) {
			h.replace(t, 2, func(e *Entry) { e.Key.Attributes = fit() })
		}, denial.PayloadForm, "in a step of their own"},
		{"no token is named", func(t *testing.T, h *held) {
			h.replace(t, 2, func(e *Entry) { delete(e.Key.Token, "serial") })
		}, denial.PayloadForm, "serial number"},
		{"a step does something else", func(t *testing.T, h *held) {
			h.replace(t, 8, func(e *Entry) { e.Do = Birth })
		}, denial.DualControlMissing, "something else than the script"},
		{"a confirmation brings a key", func(t *testing.T, h *held) {
			key := h.entry(t, 2).Key
			h.replace(t, 8, func(e *Entry) { e.Key = key })
		}, denial.PayloadForm, "more or less"},
		{"the birth leaves somebody out", func(t *testing.T, h *held) {
			h.replace(t, 6, func(e *Entry) { e.Persons = e.Persons[:2] })
		}, denial.DualControlMissing, "everybody"},
		{"a step is dated back", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Time = 1002 })
		}, denial.ClockUntrusted, "step 4"},
		{"the version is unknown", func(t *testing.T, h *held) {
			h.replace(t, 4, func(e *Entry) { e.Version = 2 })
		}, denial.UnsupportedVersion, ""},
		{"a confirmation gives a reason, as if it were abandoned", func(t *testing.T, h *held) {
			h.replace(t, 8, func(e *Entry) { e.Why = "no" })
		}, denial.DualControlMissing, "something else than the script"},
	}
}

func TestCheatingIsRefused(t *testing.T) {
	people := cast(t)
	script := parse(t, source(t, people, steps))
	good := hold(t, script, people, newToken(t), nil, 8)
	for _, c := range cheats() {
		t.Run(c.name, func(t *testing.T) {
			h := &held{script, good.Transcript(), people}
			if _, err := Replay(script, h.transcript); err != nil {
				t.Fatalf("before: %v", err)
			}
			c.change(t, h)
			_, err := Replay(script, h.transcript)
			wantDenial(t, err, c.reason, c.saying)
		})
	}
}

// TestAnotherScriptIsRefused: whoever verifies with a script that differs in a comment refuses the transcript.
func TestAnotherScriptIsRefused(t *testing.T) {
	people := cast(t)
	src := source(t, people, steps)
	st := hold(t, parse(t, src), people, newToken(t), nil, 8)
	_, err := Replay(parse(t, src+"# also\n"), st.Transcript())
	wantDenial(t, err, denial.DualControlMissing, "names another issuer or script")
}

func TestParticipantsKeysComeFromTheVerifier(t *testing.T) {
	people := cast(t)
	s := parse(t, source(t, people, steps))
	given := map[string]statement.Key{}
	for _, p := range people {
		given[p.uri] = p.Key()
	}
	given["mailto:wendy@example.net"] = newSigner(t, false).Key()
	wantDenial(t, s.Trust(given), denial.KeyUnknown, "another key for a witness")
	delete(given, "mailto:wendy@example.net")
	wantDenial(t, s.Trust(given), denial.KeyUnknown, "no key is given")
}

// TestAHalfRunCeremonyHasNoBirths: it goes on where it stopped, or is abandoned by a statement; it is never complete by
// itself.
func TestAHalfRunCeremonyHasNoBirths(t *testing.T) {
	people := cast(t)
	s := parse(t, source(t, people, steps))
	token := newToken(t)
	for n := range 8 {
		st := hold(t, s, people, newToken(t), nil, n)
		_, err := st.Births()
		wantDenial(t, err, denial.DualControlMissing, "not complete")
	}
	half := hold(t, s, people, token, nil, 7)
	resumed, err := Replay(s, half.Transcript())
	if err != nil {
		t.Fatal(err)
	}
	d, err := resumed.Prepare(context.Background(), token, nil, 2000)
	if err != nil {
		t.Fatal(err)
	}
	if err := resumed.Append(confirm(t, d, people...)); err != nil || !resumed.Complete() {
		t.Fatalf("complete %t: %v", resumed.Complete(), err)
	}

	d, err = half.PrepareAbandon("the envelope was torn", 2000)
	if err != nil {
		t.Fatal(err)
	}
	if err := half.Append(confirm(t, d, people[2])); err != nil || half.Complete() || half.why == "" {
		t.Fatalf("complete %t, abandoned %q: %v", half.Complete(), half.why, err)
	}
	_, err = half.Births()
	wantDenial(t, err, denial.DualControlMissing, "abandoned after 7 of 8")
	_, err = half.Prepare(context.Background(), token, nil, 2000)
	wantDenial(t, err, denial.DualControlMissing, "over")
	wantDenial(t, half.Append(confirm(t, d, people...)), denial.DualControlMissing, "over")
	_, err = half.PrepareAbandon("again", 2000)
	wantDenial(t, err, denial.DualControlMissing, "over")
	_, err = resumed.PrepareAbandon("regret", 2000)
	wantDenial(t, err, denial.DualControlMissing, "over")
	fresh := hold(t, s, people, newToken(t), nil, 1)
	_, err = fresh.PrepareAbandon("", 2000)
	wantDenial(t, err, denial.PayloadForm, "reason")
}

// TestNothingUnfitIsLaidBeforePeople: what the token answers is checked before anybody is asked to sign it.
func TestNothingUnfitIsLaidBeforePeople(t *testing.T) {
	people := cast(t)
	s := parse(t, source(t, people, steps))
	token := newToken(t)
	st := hold(t, s, people, token, nil, 3)
	for thumb, b := range token.keys {
		b.Attributes["CKA_EXTRACTABLE"] = "true"
		token.keys[thumb] = b
	}
	_, err := st.Prepare(context.Background(), token, nil, 2000)
	wantDenial(t, err, denial.HSMKeyPolicy, "unfit: CKA_EXTRACTABLE")
	_, err = st.Prepare(context.Background(), newToken(t), nil, 2000)
	wantDenial(t, err, denial.HSMKeyPolicy, "no such key")
	_, err = hold(t, s, people, newToken(t), nil, 1).Prepare(context.Background(), newToken(t), nil, 1)
	wantDenial(t, err, denial.ClockUntrusted, "step 2")
}

// TestMissingNamesWhoHasStillToConfirm, and refuses what is no part of the step.
func TestMissingNamesWhoHasStillToConfirm(t *testing.T) {
	people := cast(t)
	s := parse(t, source(t, people, steps))
	st := hold(t, s, people, newToken(t), nil, 0)
	d, err := st.Prepare(context.Background(), newToken(t), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := st.Missing(confirm(t, d, people[1]))
	if err != nil || len(missing) != 2 || missing[0].Person != people[0].uri || missing[1].Person != people[2].uri {
		t.Errorf("missing %v: %v", missing, err)
	}
	_, err = st.Missing(confirm(t, d, person{"", Custodian, newSigner(t, false)}))
	wantDenial(t, err, denial.KeyUnknown, "")
}

func TestScriptsThatShareNothingAreRefused(t *testing.T) {
	people := cast(t)
	twice, sameKey, noWitness, one := slices.Clone(people), slices.Clone(people), slices.Clone(people), slices.Clone(people)
	twice[2].uri = twice[0].uri
	sameKey[2].Signer = sameKey[0].Signer
	noWitness[2].role = Custodian
	one[1].role = Witness
	first := "[[step]]\ndo=\"confirm\"\nsay=\"go\"\n"
	made := first + "[[step]]\ndo=\"make-key\"\npurpose=\"log\"\n"
	for _, c := range []struct {
		name, src string
		reason    denial.Reason
		saying    string
	}{
		{"the witness is a custodian", source(t, twice, steps), denial.DualControlMissing, "distinct persons"},
		{"the witness has a custodian's key", source(t, sameKey, steps), denial.KeyAmbiguous, ""},
		{"no witness", source(t, noWitness, steps), denial.DualControlMissing, "at least two custodians and a witness"},
		{"one custodian", source(t, one, steps), denial.DualControlMissing, "at least two custodians and a witness"},
		{"no confirmation first", source(t, people, steps[len("\n[[step]]\ndo = \"confirm\"\nsay = \"All are present. The release is the one that was announced.\"\n"):]), denial.DualControlMissing, "first step"},
		{"no key", source(t, people, first), denial.DualControlMissing, "makes no key"},
		{"no birth", source(t, people, made+"[[step]]\ndo=\"read-back\"\npurpose=\"log\"\n"), denial.DualControlMissing, "without its birth"},
		{"not read back", source(t, people, made+"[[step]]\ndo=\"birth\"\npurpose=\"log\"\n"), denial.DualControlMissing, "step 3 is out of order"},
		{"made twice", source(t, people, made+"[[step]]\ndo=\"make-key\"\npurpose=\"log\"\n"), denial.DualControlMissing, "step 3 is out of order"},
	} {
		_, err := Parse([]byte(c.src))
		t.Run(c.name, func(t *testing.T) { wantDenial(t, err, c.reason, c.saying) })
	}
	good := source(t, people, steps)
	key := hex.EncodeToString(make([]byte, 32))
	for name, src := range map[string]string{
		"an unknown key":        "colour = 1\n" + good,
		"no title":              good[len("schema = 1\ntitle = \"Keys of issuer.example\"\n"):],
		"an unknown role":       good + "[[participant]]\nperson = \"mailto:x@example.org\"\nrole = \"operator\"\n",
		"an unknown step":       good + "[[step]]\ndo = \"abandon\"\n",
		"confirm without words": good + "[[step]]\ndo = \"confirm\"\n",
		"an unknown purpose":    good + "[[step]]\ndo = \"make-key\"\npurpose = \"tls\"\n",
		"replaces elsewhere":    good + "[[step]]\ndo = \"confirm\"\nsay = \"x\"\nreplaces = \"" + key + "\"\n",
		"no step":               source(t, people, ""),
		"an escape sequence":    good + "[[step]]\ndo = \"confirm\"\nsay = \"\\u001b[2J\"\n",
		"one in the title":      strings.Replace(good, "Keys of", "\\u001b[2J", 1),
		"a raw escape":          good + "# \x1b[2J\n",
		"not TOML":              good + "[[",
	} {
		if _, err := Parse([]byte(src)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if s := parse(t, source(t, people, first+"[[step]]\ndo=\"make-key\"\npurpose=\"log\"\nreplaces=\""+key+"\"\n"+
		"[[step]]\ndo=\"read-back\"\npurpose=\"log\"\n[[step]]\ndo=\"birth\"\npurpose=\"log\"\n")); len(s.Steps) != 4 {
		t.Errorf("%d steps", len(s.Steps))
	}
}

// TestTheKeyThatIsReplacedIsNotMadeAnew: a new key is another one than the key beside which it is made.
func TestTheKeyThatIsReplacedIsNotMadeAnew(t *testing.T) {
	people, present := cast(t), newSigner(t, true).Key()
	s := parse(t, source(t, people, "[[step]]\ndo=\"confirm\"\nsay=\"go\"\n[[step]]\ndo=\"make-key\"\npurpose=\"log\"\nreplaces=\""+
		present.Thumbprint().String()+"\"\n[[step]]\ndo=\"read-back\"\npurpose=\"log\"\n[[step]]\ndo=\"birth\"\npurpose=\"log\"\n"))
	h := &held{s, hold(t, s, people, newToken(t), nil, 4).Transcript(), people}
	h.replace(t, 2, func(e *Entry) { e.Key.Key = present })
	_, err := Replay(s, h.transcript)
	wantDenial(t, err, denial.HSMKeyPolicy, "there has been before")
}
