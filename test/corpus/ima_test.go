package corpus

import (
	"bytes"
	"encoding/hex"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// imaVerdicts says which IMA lists of the corpus are refused, or need a word; all others are accepted.
var imaVerdicts = map[string]struct {
	reason denial.Reason
	why    string
}{
	"ima/tpm2-tss/sml-ima-ng-sha1-invalidated.bin": {denial.LogMalformed, "the entry is one byte shorter than it says"},
	"ima/tpm2-tss/sml-ima-ng-sha1.bin":             {denial.LogMalformed, "a line break stands behind the last entry"},
	"ima/tpm2-tss/sml-ima-sha1.bin":                {denial.LogMalformed, "a line break stands behind the last entry"},
	"ima/tpm2-tss/sml-ima-sha1-invalidated.bin":    {accepted, "one violation, in an older template"},
	"ima/tpm2-tss/sml-ima-sig-sha256.bin":          {denial.LogMalformed, "six bytes of another entry stand at the end"},
	"ima/guard-oss/h12ssl.binary_measurements":     {accepted, "the last of 2,365 entries was measured after PCR 10 was read"},
	"ima/guard-oss/sr630.binary_measurements":      {accepted, "most entries are of PCR 11, and 154 are violations"},
	"ima/rust-keylime/empty_ima_log.txt":           {accepted, "no entry; evidence needs boot_aggregate"},
	"ima/rust-keylime/invalid_ima_log.txt":         {denial.LogMalformed, "text that is no list"},
	"ima/keylime/ima-log-unknown":                  {denial.LogMalformed, "digests by a hash algorithm called unknown"},
	"ima/keylime/ima-log-sm3_256":                  {denial.EventDigestMismatch, "template hashes by SM3, which is not implemented"},
}

// imaLists returns the lists among the IMA files of the corpus, and the one line of each entry in keylime's tests.
func imaLists(tb testing.TB) map[string][]byte {
	lists := map[string][]byte{}
	for _, f := range manifest(tb, "ima") {
		switch base := path.Base(f.path); {
		case strings.HasPrefix(base, "allowlist-"), strings.HasPrefix(base, "policy-"):
		case path.Ext(base) == ".json":
			for name, line := range readJSON[map[string]string](tb, f.path) {
				lists[f.path+" "+name] = []byte(line + "\n")
			}
		default:
			lists[f.path] = read(tb, f.path)
			if path.Base(path.Dir(f.path)) == "ima-doc" && !bytes.HasSuffix(lists[f.path], []byte("\n")) {
				lists[f.path] = append(lists[f.path], '\n') // quoted from a page
			}
		}
	}
	return lists
}

// imaProofs are the values of PCR 10 that were read from machines, and how many entries of their lists lead there.
var imaProofs = map[string]map[string]int{
	"bundle/guard-oss/lenovo-t14s-amd/ubuntu2210":           {"sha1": 1, "sha256": 1},
	"bundle/guard-oss/lenovo-x1c-gen9/pcr11-ima":            {"sha1": 36, "sha256": 36},
	"bundle/guard-oss/supermicro-h12ssl-amd/ubuntu2004-ima": {"sha1": 5071, "sha256": 5071},
	"ima/guard-oss/h12ssl.binary_measurements":              {"sha1": 2364}, // by the manifest
}

// imaPCR10 returns the values of PCR 10 that are known for a list, by bank.
func imaPCR10(tb testing.TB, name string) map[string]text {
	switch {
	case name == "ima/guard-oss/h12ssl.binary_measurements":
		value, err := hex.DecodeString("001d0912655de7a27a6c465bd49445ec4dfbefa5")
		if err != nil {
			tb.Fatal(err)
		}
		return map[string]text{"sha1": value}
	case strings.HasPrefix(name, "bundle/"):
		return readJSON[struct {
			IMA struct {
				PCR10 map[string]text `json:"pcr10"`
			} `json:"ima"`
		}](tb, path.Dir(name)+"/bundle.json").IMA.PCR10
	}
	return nil
}

// imaTrials reads every list of the corpus and holds it against PCR 10 where that is known.
func imaTrials(tb testing.TB) []trial {
	tb.Helper()
	lists, files := imaLists(tb), map[string]file{}
	for _, f := range slices.Concat(manifest(tb, "ima"), manifest(tb, "bundle")) {
		files[f.path] = f
		if path.Base(f.path) == "ima_binary_runtime_measurements" {
			lists[f.path] = read(tb, f.path)
		}
	}
	var all []trial
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		of, _, _ := strings.Cut(name, " ")
		tr := trial{file: files[of], name: name, proofs: map[string]int{}}
		tr.list, tr.err = attest.ParseIMAList(lists[name])
		for bank, value := range imaPCR10(tb, name) {
			var proof attest.IMAProof
			if tr.err == nil {
				proof, tr.err = tr.list.Compare(bank, value)
			}
			if tr.proofs[bank] = proof.Entries; proof.Padded {
				tb.Errorf("%s, %s: by padded hashes", name, bank)
			}
		}
		all = append(all, tr)
	}
	return all
}

// imaWhy returns what is to be said of a list, and whether it is to be refused and why.
func imaWhy(name string) (denial.Reason, string) {
	if strings.Contains(name, "ast-invalid") {
		return denial.LogMalformed, "made to be refused"
	}
	return imaVerdicts[name].reason, imaVerdicts[name].why
}

func TestIMALists(t *testing.T) {
	for _, tr := range imaTrials(t) {
		if want, _ := imaWhy(tr.name); tr.reason() != want {
			t.Errorf("%s: got %v, want %d %s", tr.name, tr.err, want.Code(), want)
		}
		of := strings.TrimSuffix(tr.name, "/ima_binary_runtime_measurements")
		if want := imaProofs[of]; tr.err == nil && !maps.Equal(tr.proofs, want) && len(tr.proofs)+len(want) > 0 {
			t.Errorf("%s: got %v, want %v", tr.name, tr.proofs, want)
		}
	}
}

// The lists of real machines lead to the PCR 10 that was read there, and to no other.
func TestIMAListsLeadToPCR10(t *testing.T) {
	compared := 0
	for _, tr := range imaTrials(t) {
		for bank, value := range imaPCR10(t, tr.name) {
			value[0] ^= 1
			if _, err := tr.list.Compare(bank, value); !denial.Is(err, denial.LogReplayMismatch) {
				t.Errorf("%s, %s, another PCR 10: got %v", tr.name, bank, err)
			}
			compared++
		}
	}
	if compared != 7 {
		t.Errorf("%d values compared, want 7", compared)
	}
}

// Between two lists of one machine a file was changed: both its digests are there.
func TestChangedFileOfIMA(t *testing.T) {
	digests := func(name string) map[string]bool {
		list, err := attest.ParseIMAList(read(t, "ima/guard-oss/"+name))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, e := range list.Entries {
			if e.Name == "/root/.ssh/authorized_keys" {
				out[e.Digest] = true
			}
		}
		return out
	}
	created, changed := digests("h12ssl.created.measurements"), digests("h12ssl.changed.measurements")
	if len(digests("h12ssl.before.measurements")) != 0 || len(created) != 1 || len(changed) != 2 {
		t.Errorf("got %v, then %v", created, changed)
	}
}
