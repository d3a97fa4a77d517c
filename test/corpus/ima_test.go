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

func TestIMALists(t *testing.T) {
	for name, raw := range imaLists(t) {
		want := imaVerdicts[name].reason
		if strings.Contains(name, "ast-invalid") {
			want = denial.LogMalformed
		}
		_, err := attest.ParseIMAList(raw)
		if err == nil && want != accepted || err != nil && denial.Of(err).Reason != want {
			t.Errorf("%s: got %v, want %d %s", name, err, want.Code(), want)
		}
	}
}

// The lists of real machines lead to the PCR 10 that was read there.
func TestIMAListsLeadToPCR10(t *testing.T) {
	type proof struct {
		bank    string
		entries int
	}
	for name, want := range map[string]map[string]proof{
		"bundle/guard-oss/lenovo-t14s-amd/ubuntu2210":           {"sha1": {entries: 1}, "sha256": {entries: 1}},
		"bundle/guard-oss/lenovo-x1c-gen9/pcr11-ima":            {"sha1": {entries: 36}, "sha256": {entries: 36}},
		"bundle/guard-oss/supermicro-h12ssl-amd/ubuntu2004-ima": {"sha1": {entries: 5071}, "sha256": {entries: 5071}},
	} {
		list, err := attest.ParseIMAList(read(t, name+"/ima_binary_runtime_measurements"))
		if err != nil {
			t.Fatal(err)
		}
		bundle := readJSON[struct {
			IMA struct {
				PCR10 map[string]text `json:"pcr10"`
			} `json:"ima"`
		}](t, name+"/bundle.json")
		for _, bank := range slices.Sorted(maps.Keys(want)) {
			got, err := list.Compare(bank, bundle.IMA.PCR10[bank])
			if err != nil || got.Entries != want[bank].entries || got.Padded {
				t.Errorf("%s, %s: got %+v, %v", name, bank, got, err)
			}
			bundle.IMA.PCR10[bank][0] ^= 1
			if _, err := list.Compare(bank, bundle.IMA.PCR10[bank]); !denial.Is(err, denial.LogReplayMismatch) {
				t.Errorf("%s, %s, another PCR 10: got %v", name, bank, err)
			}
		}
	}
	list, err := attest.ParseIMAList(read(t, "ima/guard-oss/h12ssl.binary_measurements"))
	if err != nil {
		t.Fatal(err)
	}
	pcr10, err := hex.DecodeString("001d0912655de7a27a6c465bd49445ec4dfbefa5") // by the manifest
	if err != nil {
		t.Fatal(err)
	}
	if got, err := list.Compare("sha1", pcr10); err != nil || got.Entries != 2364 || len(list.Entries) != 2365 {
		t.Errorf("got %+v, %v", got, err)
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
