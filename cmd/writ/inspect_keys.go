package main

import (
	"fmt"

	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// keyChangePayload shows what authorities say of the issuer's keys: each step, and the birth of each new key.
func keyChangePayload(payload []byte) (*sheet, error) {
	c, err := record.ReadKeyChange(payload)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("act", statement.DigestOf(payload).String())
	s.put("sequence", c.Sequence)
	s.put("previous", c.Previous)
	s.putTime("time", c.Time)
	s.putText("why", c.Why)
	steps := []*sheet{}
	for _, k := range c.Steps {
		one := &sheet{}
		one.put("purpose", k.Purpose)
		one.put("key", k.Key)
		one.say("state", k.To.String(), fmt.Sprintf("from %s to %s", k.From, k.To))
		switch k.To {
		case record.KeyPreActive:
			one.putTime("signs_not_before", k.Since)
			one.put("birth", explainBirth(k.Birth))
		case record.KeyCompromised:
			one.putTime("fell", k.Since)
		}
		if k.To == record.KeyPreActive && k.Succession == nil {
			one.say("succession", nil, "no key was in use that could name it: the authorities alone stand for it")
		} else if k.To == record.KeyPreActive {
			next, err := explainStatement(k.Succession)
			if err != nil {
				return nil, err
			}
			one.put("succession", next)
		}
		steps = append(steps, one)
	}
	if c.People == nil {
		s.put("step", steps)
		return s, nil
	}
	putPeople(s, c.People.Authorities, c.People.Quorums, c.People.OnePerson)
	if len(c.People.Reset) > 0 {
		s.say("reset", c.People.Reset, fmt.Sprintf("the next policy of each of these kinds may have any version: %v", c.People.Reset))
	}
	return s, nil
}

// successionPayload shows which key a key of the issuer names to follow it.
func successionPayload(payload []byte) (*sheet, error) {
	n, err := record.ReadSuccession(payload)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("purpose", n.Purpose)
	s.put("next_key", n.Key.Thumbprint().String())
	s.put("previous", n.Previous)
	return s, nil
}

// epochPayload shows what authorities say of a log that goes on behind a backup: what was restored, and what is lost.
func epochPayload(payload []byte) (*sheet, error) {
	var e record.Epoch
	if err := statement.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("act", statement.DigestOf(payload).String())
	s.put("epoch", e.Number)
	s.put("genesis", e.Genesis)
	s.putText("log", e.Log)
	s.put("restored_entries", e.Size)
	s.put("restored_root", e.Root)
	s.say("lost", e.Lost != nil, e.Words())
	if e.Lost != nil {
		s.put("lost_entries", e.Lost.Size)
		s.put("lost_root", e.Lost.Root)
	}
	if e.Counter != 0 {
		s.put("tpm_counter", e.Counter)
	}
	s.putTime("time", e.Time)
	s.putText("why", e.Why)
	return s, nil
}
