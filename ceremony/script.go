package ceremony

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/settings"
	"github.com/governed-execution/writ/statement"
)

const (
	schema    = 1
	maxScript = 64 << 10
	maxSteps  = 64
	maxPeople = 16 // signatures of one step: see record.Bundle
)

// Role is what somebody does in a ceremony.
type Role string

// The roles.
const (
	Custodian Role = "custodian" // shares what opens the token
	Witness   Role = "witness"   // watches, and has nothing to do with the token
)

// Action is what happens in a step.
type Action string

// The actions.
const (
	Confirm  Action = "confirm"   // people do what the script says
	MakeKey  Action = "make-key"  // the token makes a key
	ReadBack Action = "read-back" // the token states what the key is
	Birth    Action = "birth"     // the key is stated to be born
	Abandon  Action = "abandon"   // in no script: the ceremony ends without result
)

// Participant is a person with a key and a role.
type Participant struct {
	Person string // URI
	Role   Role
	Key    statement.Key
}

// Step is one step of a script.
type Step struct {
	Do       Action
	Say      string               // for people
	Purpose  string               // of the key; "" for confirm
	Replaces statement.Thumbprint // make-key: the present key for the purpose, which stays; zero if there is none
}

// Script is a script that Parse accepts.
type Script struct {
	Title, Place string
	Issuer       string // URI of the issuer that the keys are for
	HostQuote    bool   // a birth needs a quote by the TPM of the host
	Participants []Participant
	Steps        []Step
	Digest       statement.Digest // of the file
}

// file is a script as TOML.
type file struct {
	Schema       int64         `toml:"schema"`
	Title        string        `toml:"title"`
	Place        string        `toml:"place"`
	Issuer       string        `toml:"issuer"`
	HostQuote    bool          `toml:"host_quote"`
	Participants []participant `toml:"participant"`
	Steps        []step        `toml:"step"`
}

type participant struct {
	Person string `toml:"person"`
	Role   Role   `toml:"role"`
	Key    string `toml:"key"`
}

type step struct {
	Do       Action `toml:"do"`
	Say      string `toml:"say"`
	Purpose  string `toml:"purpose"`
	Replaces string `toml:"replaces"`
}

// Parse reads a script. It checks, in this order: size and strict TOML; title, place, issuer and the version of the form;
// no text that a terminal would act on;
// every participant has a role, a URI and a key; at least two custodians and one witness, all of them distinct persons
// (409) with distinct keys (306); every step is complete; the first step is one that everybody confirms before a key is
// made, and every key is made, read back and born, once and in this order (409).
func Parse(data []byte) (*Script, error) {
	if len(data) > maxScript {
		return nil, fmt.Errorf("reading script: more than %d bytes", maxScript)
	}
	var f file
	if err := settings.Decode(data, &f); err != nil {
		return nil, fmt.Errorf("reading script: %w", err)
	}
	if f.Schema != schema || f.Title == "" || f.Place == "" || !absolute(f.Issuer) {
		return nil, errors.New("reading script: it needs schema = 1, a title, a place, and the URI of the issuer")
	}
	s := &Script{Title: f.Title, Place: f.Place, Issuer: f.Issuer, HostQuote: f.HostQuote, Digest: statement.DigestOf(data)}
	if strings.ContainsFunc(s.Title+s.Place, unicode.IsControl) { // written as an escape
		return nil, errors.New("reading script: it holds control characters")
	}
	if err := s.addPeople(f.Participants); err != nil {
		return nil, err
	}
	if err := s.addSteps(f.Steps); err != nil {
		return nil, err
	}
	return s, s.checkOrder()
}

func (s *Script) addPeople(people []participant) error {
	var keys statement.Keys
	roles := map[Role]int{}
	persons := map[string]bool{}
	for n, p := range people {
		if p.Role != Custodian && p.Role != Witness || !absolute(p.Person) {
			return fmt.Errorf("reading script: participant %d needs the URI of a person, and the role custodian or witness", n+1)
		}
		key, err := statement.ParsePEM([]byte(p.Key))
		if err != nil {
			return fmt.Errorf("reading script: key of participant %d: %w", n+1, err)
		}
		if persons[p.Person] {
			return denial.New(denial.DualControlMissing, "one person takes part twice: custodians and witnesses are distinct persons").Try(hintScript)
		}
		if err := keys.Add(key, statement.Ceremony); err != nil {
			return err
		}
		persons[p.Person] = true
		roles[p.Role]++
		s.Participants = append(s.Participants, Participant{Person: p.Person, Role: p.Role, Key: key})
	}
	if roles[Custodian] < 2 || roles[Witness] < 1 || len(people) > maxPeople {
		return denial.New(denial.DualControlMissing, "a ceremony needs at least two custodians and a witness, and has at most %d participants", maxPeople).Try(hintScript)
	}
	return nil
}

func (s *Script) addSteps(steps []step) error {
	if len(steps) == 0 || len(steps) > maxSteps {
		return fmt.Errorf("reading script: it has 1 to %d steps", maxSteps)
	}
	for n, raw := range steps {
		st := Step{Do: raw.Do, Say: strings.Join(strings.Fields(raw.Say), " "), Purpose: raw.Purpose}
		if strings.ContainsFunc(st.Say, unicode.IsControl) { // written as an escape
			return fmt.Errorf("reading script: step %d: it holds control characters", n+1)
		}
		if raw.Replaces != "" {
			b, err := hex.DecodeString(raw.Replaces)
			if err != nil || len(b) != len(st.Replaces) || raw.Do != MakeKey {
				return fmt.Errorf("reading script: step %d: replaces is the thumbprint of a key, and stands in make-key only", n+1)
			}
			st.Replaces = statement.Thumbprint(b)
		}
		switch {
		case raw.Do == Confirm && (st.Say == "" || raw.Purpose != ""):
			return fmt.Errorf("reading script: step %d: confirm needs the words to confirm, and no purpose", n+1)
		case raw.Do == Confirm:
		case raw.Do != MakeKey && raw.Do != ReadBack && raw.Do != Birth:
			return fmt.Errorf("reading script: step %d: do is confirm, make-key, read-back or birth", n+1)
		case !slices.Contains(record.Purposes(), raw.Purpose):
			return fmt.Errorf("reading script: step %d: purpose is %s", n+1, strings.Join(record.Purposes(), ", "))
		}
		s.Steps = append(s.Steps, st)
	}
	return nil
}

// checkOrder checks the order of the steps: first a confirmation, and for each key make-key, read-back, birth.
func (s *Script) checkOrder() error {
	if s.Steps[0].Do != Confirm {
		return denial.New(denial.DualControlMissing, "the first step of a script is one to confirm").Try(hintScript)
	}
	after := map[Action]Action{MakeKey: "", ReadBack: MakeKey, Birth: ReadBack}
	last := map[string]Action{}
	for n, st := range s.Steps {
		if st.Do == Confirm {
			continue
		}
		if last[st.Purpose] != after[st.Do] {
			return denial.New(denial.DualControlMissing, "step %d is out of order: a key is made, read back and born, each once", n+1).Try(hintScript)
		}
		last[st.Purpose] = st.Do
	}
	for _, p := range record.Purposes() {
		if last[p] != "" && last[p] != Birth {
			return denial.New(denial.DualControlMissing, "the script makes the %s key without its birth", p).Try(hintScript)
		}
	}
	if len(last) == 0 {
		return denial.New(denial.DualControlMissing, "the script makes no key").Try(hintScript)
	}
	return nil
}

// Trust holds the participants of the script against the keys that a verifier has from the persons themselves. It refuses
// a participant whose key is not given, or is another than the script's (305).
func (s *Script) Trust(given map[string]statement.Key) error {
	for _, p := range s.Participants {
		key, ok := given[p.Person]
		if !ok {
			return denial.New(denial.KeyUnknown, "no key is given for one of the %s persons of the script", p.Role)
		}
		if !key.Equal(p.Key) {
			return denial.New(denial.KeyUnknown, "the script names another key for a %s than the one given", p.Role)
		}
	}
	return nil
}

// persons returns the participants in ascending order.
func (s *Script) persons() []string {
	var all []string
	for _, p := range s.Participants {
		all = append(all, p.Person)
	}
	slices.Sort(all)
	return all
}

// claims returns the claims of every statement of the ceremony.
func (s *Script) claims() statement.Claims {
	return statement.Claims{Issuer: s.Issuer, Subject: s.Issuer + "/ceremonies/" + s.Digest.String()}
}

func absolute(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.IsAbs() && len(uri) <= 512
}
