package ceremony

import (
	"bytes"
	"testing"
)

// FuzzTranscript: what is decoded has one encoding, and no transcript but the one that was held replays to its end.
func FuzzTranscript(f *testing.F) {
	people := cast(f)
	s, err := Parse([]byte(source(f, people, steps)))
	if err != nil {
		f.Fatal(err)
	}
	good, err := hold(f, s, people, newToken(f), nil, 8).Transcript().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := DecodeTranscript(data)
		if err != nil {
			return
		}
		if again, err := tr.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x is encoded as %x: %v", data, again, err)
		}
		if st, err := Replay(s, tr); err == nil && st.Complete() && len(st.born) != 2 {
			t.Fatal("complete without births")
		}
	})
}

// FuzzScript: whatever is accepted has two custodians, a witness, and a birth for every key.
func FuzzScript(f *testing.F) {
	f.Add([]byte(source(f, cast(f), steps)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		roles, made, born := map[Role]int{}, 0, 0
		for _, p := range s.Participants {
			roles[p.Role]++
		}
		for _, st := range s.Steps {
			if st.Do == MakeKey {
				made++
			}
			if st.Do == Birth {
				born++
			}
		}
		if roles[Custodian] < 2 || roles[Witness] < 1 || made == 0 || made != born {
			t.Fatalf("accepted with %v, %d made, %d born", roles, made, born)
		}
	})
}
