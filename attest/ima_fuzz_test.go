package attest

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/test/need"
)

// FuzzIMA: no list stops the parser; what it accepts it reads as one list only; and a list leads to a value of PCR 10 if and
// only if that value is the one after some beginning of it.
func FuzzIMA(f *testing.F) {
	for _, pattern := range []string{"ima/*/sml*", "ima/rust-keylime/*", "ima/keylime/ima-log-*", "ima/ima-doc/*", "bundle/guard-oss/lenovo-*/*/ima_binary*"} {
		files, _ := filepath.Glob(filepath.Join(need.CorpusIfAny(), pattern)) // none without the corpus
		for _, name := range files {
			raw, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw[:min(len(raw), 8<<10)])
		}
	}
	f.Add([]byte("10 5426cf3031a43f5bfca183d79950698a95a728f6 ima-sig sha256:f1125b940480d20ad841d26d5ea253edc0704b5ec1548c891edf212cb1a9365e /lib/x.ko \n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := ParseIMAList(raw)
		refusal(t, err)
		if err != nil {
			return
		}
		var again []byte
		for r := newIMAReader(l.list, l.size); ; {
			e, err := r.next()
			if err != nil {
				t.Fatalf("a list that was accepted is refused: %v", err)
			}
			if e == nil {
				break
			}
			again = e.append(again)
		}
		if !bytes.Equal(again, l.list) {
			t.Fatal("the entries are not the list")
		}
		pcrs := map[int64][]byte{}
		for p := range int64(11) {
			pcrs[p] = make([]byte, 32)
		}
		ref, err := IMAReference{Watch: []string{"/*"}}.compile()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = newIMAFacts(l.list, "sha256", pcrs, ref); err == nil {
			t.Fatal("a list leads to a PCR 10 that nothing extended")
		}
		refusal(t, err)
		if r, err := l.Replay("sha256"); err == nil {
			pcrs[10], _ = hex.DecodeString(r.Value)
			_, err = newIMAFacts(l.list, "sha256", pcrs, ref)
			refusal(t, err)
		}
	})
}
