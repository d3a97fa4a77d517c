package ceremony

import (
	"maps"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

// fit returns what a token must state of a key: no more, no less, and nothing else.
func fit() map[string]string {
	return map[string]string{
		"CKA_TOKEN": "true", "CKA_PRIVATE": "true", "CKA_SENSITIVE": "true", "CKA_ALWAYS_SENSITIVE": "true",
		"CKA_NEVER_EXTRACTABLE": "true", "CKA_EXTRACTABLE": "false", "CKA_LOCAL": "true", "CKA_MODIFIABLE": "false",
		"CKA_COPYABLE": "false", "CKA_ALWAYS_AUTHENTICATE": "false", "CKA_KEY_GEN_MECHANISM": "CKM_EC_KEY_PAIR_GEN", "usage": "sign",
	}
}

// checkKey checks what a step says of its key:
//   - confirm says nothing of any;
//   - make-key names the purpose of the script, a key that nobody has had so far, and module and serial number of a token;
//   - read-back and birth name exactly that key on that token (904), with every attribute of fit (904);
//   - birth names everybody who takes part (409), and has a quote of the host if the script asks for one (914), which
//     answers this step (3xx, 506, 601).
func (st *State) checkKey(e *Entry) error {
	want := st.script.Steps[len(st.transcript)]
	if (e.Key != nil) != (want.Do != Confirm) || (e.Persons != nil || e.Quote != nil) && want.Do != Birth {
		return denial.New(denial.PayloadForm, "step %d says more or less than a %s does", e.Step, want.Do)
	}
	if want.Do == Confirm {
		return nil
	}
	if e.Key.Ceremony != nil || !e.Key.Key.Valid() || e.Key.Token["module"] == "" || e.Key.Token["serial"] == "" {
		return denial.New(denial.PayloadForm, "step %d does not name a key, a module and the serial number of a token", e.Step)
	}
	if e.Key.Purpose != want.Purpose {
		return denial.New(denial.DualControlMissing, "step %d is about a key for another purpose than the script says", e.Step).Try(hintPlace)
	}
	if want.Do == MakeKey {
		return st.checkNew(e, want)
	}
	made := st.made[want.Purpose]
	if !e.Key.Key.Equal(made.Key) || !maps.Equal(e.Key.Token, made.Token) {
		return denial.New(denial.HSMKeyPolicy, "step %d is about another key or token than the one that was confirmed when the %s key was made", e.Step, want.Purpose)
	}
	if err := checkAttributes(e.Key); err != nil {
		return err
	}
	if want.Do == Birth {
		return st.checkBirth(e)
	}
	return nil
}

// checkNew refuses a key that something else has: another purpose, a participant, or the key that it replaces.
func (st *State) checkNew(e *Entry, want Step) error {
	used := e.Key.Key.Thumbprint() == want.Replaces
	for _, m := range st.made {
		used = used || m.Key.Equal(e.Key.Key)
	}
	for _, p := range st.script.Participants {
		used = used || p.Key.Equal(e.Key.Key)
	}
	if used {
		return denial.New(denial.HSMKeyPolicy, "the %s key is one that there has been before", want.Purpose)
	}
	if len(e.Key.Attributes) != 0 {
		return denial.New(denial.PayloadForm, "attributes are read back in a step of their own")
	}
	return nil
}

func (st *State) checkBirth(e *Entry) error {
	if !slices.Equal(e.Persons, st.script.persons()) {
		return denial.New(denial.DualControlMissing, "the birth does not name everybody who takes part").Try(hintPlace)
	}
	switch {
	case e.Quote != nil:
		return checkQuote(e)
	case st.script.HostQuote:
		return denial.New(denial.SelfTestFailed, "the script asks for a quote of the host, and the birth has none")
	}
	return nil
}

func checkQuote(e *Entry) error {
	nonce := qualifying(e)
	_, err := attest.CheckQuote(attest.QuoteFiles{Attest: e.Quote.Attest, Signature: e.Quote.Signature, AK: e.Quote.AK,
		Nonce: nonce[:], PCRs: map[string]map[int64][]byte{e.Quote.Bank: e.Quote.PCRs}})
	return err
}

// checkAttributes refuses a key of which its token states anything else than fit (904), naming all that differs.
func checkAttributes(b *record.Birth) error {
	want := fit()
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got, ok := b.Attributes[name]; !ok || got != want[name] {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) == 0 && len(b.Attributes) != len(want) {
		wrong = append(wrong, "attributes that this version does not know")
	}
	if len(wrong) > 0 {
		return denial.New(denial.HSMKeyPolicy, "the %s key is unfit: %s", b.Purpose, strings.Join(wrong, ", "))
	}
	return nil
}
