package corpus

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// accepted is the verdict on evidence that passes.
const accepted = denial.Reason(0)

// verdicts says what is to come of evidence that the manifest does not call positive, and of evidence where the verdict is
// another than the manifest's, or needs a word: the first entry that a name begins with counts, "*" stands for any
// characters, and every entry must be needed. All other evidence is positive, and must be accepted.
var verdicts = []struct {
	name   string
	reason denial.Reason
	why    string
}{
	// Boot logs.
	{"eventlog/coco-ccel/", denial.LogMalformed, "a log of Intel TDX, which measures into its own registers and not into a TPM"},
	{"eventlog/go-eventlog-ccel/", denial.LogMalformed, "a log of Intel TDX, which measures into its own registers and not into a TPM"},
	{"eventlog/go-attestation/ebs_event_missing_eventlog", denial.BankNotAllowed, "the log has SHA-1 digests alone"},
	{"eventlog/go-attestation/option_rom_eventlog", denial.BankNotAllowed, "the log has SHA-1 digests alone"},
	{"eventlog/go-attestation/short_no_action_eventlog", denial.BankNotAllowed, "the log has SHA-1 digests alone"},
	{"eventlog/go-attestation/sb_cert_eventlog", denial.EventUnexpected, "an excerpt: firmware did not close PCR 0, so anybody could have extended it"},
	{"eventlog/go-tpm-tools/debian-10.bin", denial.BankNotAllowed, "the log has SHA-1 digests alone"},
	{"eventlog/guard-oss/binary_bios_measurements_15", denial.BankNotAllowed, "the log has SHA-1 digests alone (TPM 1.2)"},
	{"eventlog/guard-oss/linux_event_log", denial.BankNotAllowed, "the log has SHA-1 digests alone (TPM 1.2)"},
	{"eventlog/guard-oss/windows_event_log", denial.BankNotAllowed, "the log has SHA-1 digests alone (TPM 1.2)"},
	{"eventlog/tpm2-tools/event-uefi-sha1-log.bin", denial.BankNotAllowed, "the log has SHA-1 digests alone"},
	{"eventlog/tpm2-tools/event-uefiaction.bin", denial.EventUnexpected, "one event made for a parser: no firmware closed the PCR"},
	{"eventlog/tpm2-tools/event-uefiservices.bin", denial.EventUnexpected, "one event made for a parser: no firmware closed the PCR"},
	{"eventlog/tpm2-tools/event-uefivar.bin", denial.EventUnexpected, "one event made for a parser: no firmware closed the PCR"},
	{"eventlog/tpm2-tools/event.bin", denial.EventUnexpected, "one event made for a parser: no firmware closed the PCR"},
	{"eventlog/tpm2-tools/specid-vendordata.bin", denial.LogMalformed, "the header gives another length than its fields: four bytes stand where no field is"},
	{"bundle/guard-oss/lenovo-t14s-amd/*/eventlog-0.bin sha384", denial.BankUncapped, "the bank is allocated, but firmware measures nothing into it: whoever comes later can extend it to any value"},

	{"eventlog/go-tpm-tools/ubuntu-1804-amd-sev.bin", accepted, "the manifest says that Secure Boot is on; the variable that was measured says off, and other verifiers read it so too"},

	// Boot logs that do not belong to their PCR values, and the quotes of these.
	{"bundle/guard-oss/dell-latitude-7520/win10-5logs/*eventlog-4.bin", accepted, "of five logs of one boot and four resumes the last one is of the quoted values"},
	{"bundle/guard-oss/dell-latitude-7520/win10-5logs/", denial.LogReplayMismatch, "a log of an earlier resume: Windows has measured more into PCR 12 since"},
	{"bundle/guard-oss/lenovo-x1c-gen9/failed-1/", denial.LogReplayMismatch, "PCR 0 is not what the log gives"},
	{"bundle/guard-oss/lenovo-x1c-gen9/failed-2/", denial.LogReplayMismatch, "PCR 0 is not what the log gives"},
	{"bundle/guard-oss/lenovo-x1c-gen9/pcr11-ima/eventlog-0.bin", accepted, "all PCRs fit but 10 and 11, which IMA extends; each is refused where it is demanded"},
	{"bundle/guard-oss/lenovo-x1c-gen9/no-eventlog/", denial.QuoteSignature, "nobody knows the key, so nothing shows who signed; and there is no log"},

	// Quotes.
	{"bundle/guard-oss/lenovo-t14s-amd/ubuntu2110/quote.attest", denial.QuoteMalformed, "one quote over three banks; a policy names the one bank it wants quoted"},
	{"bundle/guard-oss/supermicro-x11sch/*/quote.attest", denial.QuoteMalformed, "one quote over two banks, SHA-1 among them; a policy names the one bank it wants quoted"},
	{"bundle/guard-oss/supermicro-x11sch/*/eventlog-0.bin sha256", accepted, "the SHA-256 bank fits; that of SHA-1, which does not, is never looked at"},
	{"bundle/guard-oss/supermicro-x11sch/*/pcp-aik-bla.bin", denial.AKAttributes, "the key signs with SHA-1"},
	{"bundle/coco-az-snp-vtpm/tpm-quote.msg", denial.QuoteSignature, "the quote of another machine: the manifest calls it half of a negative pair"},
	{"bundle/go-attestation/windows_gcp_shielded_vm.json", denial.AKAttributes, "the key signs with SHA-1"},
	{"bundle/go-tpm-tools/*.pb sha1", denial.BankNotAllowed, "a quote over SHA-1 PCRs"},
	{"bundle/go-tpm-tools/gce-cos-85-no-nonce.pb ", denial.ChallengeMismatch, "the quote answers no nonce, so nothing shows that it is fresh"},
	{"bundle/veraison-services/evidence.cbor ", denial.AKAttributes, "the key is not restricted, so it would sign any bytes that claim to be a quote"},

	// EK certificates.
	{"ekcert/leaf-amd/amd-ftpm-ca.der", denial.EKUntrusted, "a CA"},
	{"ekcert/leaf-gce/pca_tpm_*_enc_cert.pem", denial.EKUntrusted, "names neither the purpose of an EK nor the TPM, as TCG's profile demands; such a TPM can be enrolled by its EK digest"},
	{"ekcert/leaf-gce/*_sign_cert.pem", denial.EKUntrusted, "for a key that signs, and no EK does"},
	{"ekcert/leaf-keylime/compliant_cert_pem-2155cc.der", denial.AKSubstituted, "a test certificate for an RSA key with the exponent 65641, which no EK has"},
	{"ekcert/leaf-keylime/ek_cert_pem-10ef22.der", denial.EKUntrusted, "an intermediate CA, signed with SHA-1"},
	{"ekcert/leaf-keylime/st_sha256_with_rsa_der-02d30b.der", accepted, "a host cuts off the 431 bytes of padding that its TPM holds behind the certificate"},
	{"ekcert/platformcert-go-attestation/", denial.EKUntrusted, "a platform certificate, or the CA of one"},
	{"ekcert/store-", denial.EKUntrusted, "a CA: an anchor or a step on the way to one, never the certificate of an EK"},
	{"ekcert/trustedtpm/", denial.EKUntrusted, "a CA: an anchor or a step on the way to one, never the certificate of an EK"},
}

// matches reports whether a name begins with a pattern.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	name, ok := strings.CutPrefix(name, parts[0])
	for _, part := range parts[1:] {
		i := strings.Index(name, part)
		if !ok || i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return ok
}

// verdictOn returns the entry for a name, -1 if there is none.
func verdictOn(name string) int {
	for i, v := range verdicts {
		if matches(v.name, name) {
			return i
		}
	}
	return -1
}

// trials runs the whole corpus.
func trials(tb testing.TB) []trial {
	tb.Helper()
	return slices.Concat(logTrials(tb), quoteTrials(tb), certTrials(tb))
}

func TestCorpus(t *testing.T) {
	var counts [2]int
	needed := make([]bool, len(verdicts))
	for _, trial := range trials(t) {
		want, i := accepted, verdictOn(trial.name)
		if i >= 0 {
			want = verdicts[i].reason
			needed[i] = true
			if verdicts[i].why == "" {
				t.Errorf("%s: no reason is given", trial.name)
			}
		} else if trial.polarity != "positive" {
			t.Errorf("%s is %s, and no verdict is written down", trial.name, trial.polarity)
		}
		if got := trial.reason(); got != want {
			t.Errorf("%s (%s): got %v, want %d %s", trial.name, trial.polarity, trial.err, want.Code(), want)
		}
		if want == accepted {
			counts[0]++
		} else {
			counts[1]++
		}
	}
	for i, v := range verdicts {
		if !needed[i] {
			t.Errorf("nothing needs the verdict on %s", v.name)
		}
	}
	t.Logf("%d accepted, %d refused", counts[0], counts[1])
	if counts[0] < 50 || counts[1] < 60 {
		t.Errorf("%d accepted and %d refused: evidence is missing", counts[0], counts[1])
	}
}

// What the operating system measures no boot log covers: a PCR that it has extended is refused where it is demanded.
func TestNoLogCoversWhatTheSystemMeasures(t *testing.T) {
	refused := 0
	for _, c := range logCases(t) {
		for bank, pcrs := range c.pcrs {
			if i := verdictOn(c.path + " " + bank); i >= 0 && verdicts[i].reason != accepted || bank == "sha1" {
				continue
			}
			for _, pcr := range userspace(c.path) {
				v, known := pcrs[pcr]
				if !known || slices.Max(v) == 0 {
					continue
				}
				_, err := compare(c.raw, bank, map[int64][]byte{0: pcrs[0], pcr: v})
				if !denial.Is(err, denial.LogUncovered) && !denial.Is(err, denial.LogReplayMismatch) {
					t.Errorf("%s, PCR %d: got %v", c.path, pcr, err)
				}
				refused++
			}
		}
	}
	if refused < 5 {
		t.Errorf("%d PCRs refused, want at least 5", refused)
	}
}

// The boot programs that others published for a machine are among those that its log proves.
func TestPublishedBootPrograms(t *testing.T) {
	compared := 0
	for _, trial := range logTrials(t) {
		name, bank, _ := strings.Cut(trial.name, " ")
		if trial.err != nil || !strings.HasPrefix(name, "eventlog/go-tpm-tools/") || path.Base(name) == "gdc-host.bin" {
			continue // what is published for gdc-host is of another boot: no digest of it is in the log
		}
		published := readJSON[struct {
			Apps map[string][]string `json:"efi_boot_app_digests"`
		}](t, strings.TrimSuffix(name, ".bin")+".expected.json").Apps[bank]
		var proved []string
		for _, app := range trial.facts.BootApps {
			proved = append(proved, app.Digest)
		}
		for _, digest := range published {
			compared++
			if !slices.Contains(proved, digest) {
				t.Errorf("%s: %s is published, but not among the boot programs %v", name, digest, proved)
			}
		}
	}
	if compared < 20 {
		t.Errorf("%d boot programs compared, want at least 20", compared)
	}
}
