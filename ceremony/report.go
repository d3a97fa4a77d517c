package ceremony

import (
	"fmt"
	"strings"
	"time"
)

// Report is what a transcript shows, for people and machines.
type Report struct {
	Script       string              `json:"script"`     // SHA-256
	Transcript   string              `json:"transcript"` // SHA-256
	Title        string              `json:"title"`
	Place        string              `json:"place"`
	Issuer       string              `json:"issuer"`
	Complete     bool                `json:"complete"`
	Abandoned    string              `json:"abandoned,omitempty"` // why
	Steps        int                 `json:"steps"`               // of the script
	Participants []ParticipantReport `json:"participants"`
	Confirmed    []StepReport        `json:"confirmed"`
	Births       []BirthReport       `json:"births"`
}

// ParticipantReport is who took part.
type ParticipantReport struct {
	Role   Role   `json:"role"`
	Person string `json:"person"`
	Key    string `json:"key"`
}

// StepReport is a step that everybody has confirmed.
type StepReport struct {
	Step    int    `json:"step"`
	Time    string `json:"time"`
	Do      Action `json:"do"`
	Purpose string `json:"purpose,omitempty"`
	Say     string `json:"say,omitempty"`
}

// BirthReport is a key that was born.
type BirthReport struct {
	Purpose string `json:"purpose"`
	Key     string `json:"key"`
	Module  string `json:"module"`
	Serial  string `json:"serial"`
	Quoted  bool   `json:"host_quote"`
}

// Report returns what the transcript shows.
func (st *State) Report() *Report {
	s := st.script
	r := &Report{Script: s.Digest.String(), Transcript: st.digest.String(), Title: s.Title, Place: s.Place, Issuer: s.Issuer,
		Complete: st.Complete(), Abandoned: st.why, Steps: len(s.Steps), Confirmed: []StepReport{}, Births: []BirthReport{}}
	for _, p := range s.Participants {
		r.Participants = append(r.Participants, ParticipantReport{p.Role, p.Person, p.Key.Thumbprint().String()})
	}
	for i, e := range st.entries {
		one := StepReport{Step: i + 1, Time: stamp(e.Time), Do: e.Do}
		if e.Do != Abandon {
			one.Purpose, one.Say = s.Steps[i].Purpose, s.Steps[i].Say
		}
		r.Confirmed = append(r.Confirmed, one)
	}
	for _, b := range st.born {
		r.Births = append(r.Births, BirthReport{b.Purpose, b.Key.Thumbprint().String(), b.Token["module"], b.Token["serial"], b.Ceremony.Quote != nil})
	}
	return r
}

// String returns the report as lines for people.
func (r *Report) String() string {
	var b strings.Builder
	state := fmt.Sprintf("%d of %d steps confirmed", len(r.Confirmed), r.Steps)
	switch {
	case r.Complete:
		state = fmt.Sprintf("complete: all %d steps, each confirmed by everybody who takes part", r.Steps)
	case r.Abandoned != "":
		state = fmt.Sprintf("ABANDONED after %d of %d steps: %q", len(r.Confirmed)-1, r.Steps, r.Abandoned)
	}
	fmt.Fprintf(&b, "ceremony    %s, %s, for %s\nscript      %s\ntranscript  %s\n%s\n", r.Title, r.Place, r.Issuer, r.Script, r.Transcript, state)
	for _, p := range r.Participants {
		fmt.Fprintf(&b, "%-10s  %s  key %s\n", p.Role, p.Person, p.Key)
	}
	for _, s := range r.Confirmed {
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("step %-2d %s  %-9s %-8s %s", s.Step, s.Time, s.Do, s.Purpose, s.Say), " "))
	}
	for _, k := range r.Births {
		host := "without a quote of the host"
		if k.Quoted {
			host = "with a quote of the host"
		}
		fmt.Fprintf(&b, "born        %-8s key %s on token %q of %q, %s\n", k.Purpose, k.Key, k.Serial, k.Module, host)
	}
	return b.String()
}

// stamp renders a time as RFC 3339, or as a number where it is beyond every calendar.
func stamp(seconds uint64) string {
	if seconds > 253402300799 { // 9999-12-31T23:59:59Z
		return fmt.Sprintf("%d s", seconds)
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
