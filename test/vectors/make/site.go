package main

import (
	"bytes"
	"crypto/sha256"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

const (
	issuerURI = "https://issuer.example"
	logURI    = "https://issuer.example/log"
	gateURI   = "https://gate.example/one"
	hostURI   = "spiffe://example/host/a"
	listURI   = "https://issuer.example/status/0"
	personURI = "https://people.example/ada"
	program   = "file:///usr/bin/report"
)

// The present time of these vectors, and when their artifacts were issued.
var (
	present = time.Unix(1_800_000_000, 0).UTC()
	issued  = uint64(1_800_000_000 - 10)
)

// site is an issuer with its log, a relying party, and a holder.
type site struct {
	s                             *setup
	artifact, log, status, holder signer
	person                        signer
	trust                         artifact.Trust
	code                          artifact.Digest
	argv                          []string
}

func newSite(s *setup) *site {
	w := &site{s: s, artifact: newSigner(), log: newSigner(), status: newSigner(), holder: newSigner(), person: newSigner()}
	w.code = digest("the program")
	w.argv = []string{"/usr/bin/report", "--month", "2027-01"}
	w.trust = artifact.Trust{
		Version: 1, Expires: present.Add(24 * time.Hour), Genesis: sha256.Sum256([]byte("genesis")), Issuer: issuerURI, Log: logURI,
		RevocationAge: time.Minute, Lifetime: time.Hour,
		Keys: []artifact.TrustKey{{Purpose: artifact.PurposeArtifact, Key: w.artifact.key}, {Purpose: artifact.PurposeLog, Key: w.log.key},
			{Purpose: artifact.PurposeStatus, Key: w.status.key}},
		Policies: []artifact.Pin{{ID: "https://issuer.example/policy/authz", MinVersion: 3},
			{ID: "https://issuer.example/policy/boot", MinVersion: 1, Hash: digest("boot policy").Value}},
	}
	return w
}

func digest(text string) artifact.Digest { return artifact.SHA256Digest(sha256.Sum256([]byte(text))) }

// claims are valid.
func (w *site) claims() artifact.Claims {
	name := append([]byte{0, 0x0b}, bytes.Repeat([]byte{7}, 32)...)
	parameters := artifact.ParametersDigest(w.argv)
	id := bytes.Repeat([]byte{1}, 16)
	return artifact.Claims{
		Issuer: issuerURI, Subject: hostURI, Audience: gateURI, Expires: issued + 300, NotBefore: issued, IssuedAt: issued, ID: id,
		Confirmation: artifact.Confirmation{Key: w.holder.key}, Profile: artifact.Profile,
		Scope: artifact.Scope{{Target: program, Terms: artifact.Terms{Operations: artifact.Execute | artifact.Read, Code: []artifact.Digest{w.code},
			Parameters: &parameters, Constraints: &artifact.Constraints{Env: []string{"LANG", "TERM"}, Directory: "/srv"}}}},
		Challenge: bytes.Repeat([]byte{2}, 32), UEID: artifact.UEID(sha256.Sum256([]byte("ek"))), BootSeed: artifact.BootSeed(name, 4, 0),
		Status: artifact.StatusClaim{List: artifact.StatusRef{Index: 3, URI: listURI}},
		Environment: artifact.Environment{
			PCRs: []artifact.PCRBinding{{Bank: artifact.SHA256, Select: []byte{0xff, 0, 0}, Digest: bytes.Repeat([]byte{3}, 32)}},
			AK:   artifact.AK{Thumbprint: bytes.Repeat([]byte{4}, 32), Name: name}, EK: &artifact.EK{Certificate: digest("ek certificate")},
			SecureBoot: artifact.SecureBoot{Enabled: true}, Clock: artifact.Clock{Milliseconds: 9, Resets: 4, Safe: true}, Firmware: 7,
			Evidence: digest("evidence"), CNFName: name, CNFPolicy: bytes.Repeat([]byte{8}, 32),
		},
		Initiator: artifact.Initiator{Principal: personURI, Authority: issuerURI},
		Policy: artifact.PolicyRef{ID: "https://issuer.example/policy/authz", Hash: digest("policy"), Version: 3, Input: digest("input"),
			Appraisal: artifact.PolicyName{ID: "https://issuer.example/policy/boot", Hash: digest("boot policy"), Version: 2}, Request: digest("request")},
		Lineage:   artifact.Lineage{Root: id, Parents: []artifact.Parent{}, Origin: personURI},
		Execution: artifact.Execution{ID: bytes.Repeat([]byte{12}, 16)}, Limits: &artifact.Limits{Uses: 2},
	}
}

// encode encodes claims without the checks of their package.
func encode(v any) []byte { return must(statement.Marshal(v)) }

// leaf signs a payload as an artifact.
func (w *site) leaf(payload []byte) []byte {
	return newCOSE(w.artifact, statement.Artifact, issuerURI, hostURI, payload).build()
}

// receipt logs the leaf as entry 1 of 2.
func (w *site) receipt(leaf []byte, by signer, issuer, log string, at uint64) []byte {
	return w.receiptAs(leaf, func(c *cose) {
		c.by = by
		id := by.key.Thumbprint()
		c.labels = c.labels.set(4, bstr(id[:])).set(15, object{}.set(1, tstr(issuer)).set(2, tstr(log+"#2")).set(6, number(int64(at))).bytes())
	}, array(number(2), number(1), array(bstr(leafHash([]byte("genesis"))))))
}

func leafHash(leaf []byte) []byte {
	h := receipt.LeafHash(leaf)
	return h[:]
}

// receiptAs makes a receipt of the leaf beside a genesis leaf, with any head and any proof.
func (w *site) receiptAs(leaf []byte, edit func(*cose), proof []byte) []byte {
	root := sha256.Sum256(append([]byte{1}, append(leafHash([]byte("genesis")), leafHash(leaf)...)...))
	c := newCOSE(w.log, statement.Receipt, issuerURI, logURI+"#2", root[:])
	c.labels = c.labels.set(395, number(1)).set(15, object{}.set(1, tstr(issuerURI)).set(2, tstr(logURI+"#2")).set(6, number(int64(issued+1))).bytes())
	c.item = []byte{0xf6}
	c.unprotected = object{}.set(396, object{}.set(-1, array(bstr(proof))).bytes()).bytes()
	edit(c)
	return c.build()
}

// attach puts receipts beside a leaf.
func attach(leaf []byte, receipts ...[]byte) []byte { return must(statement.Attach(leaf, receipts...)) }

// transparent signs and logs a payload.
func (w *site) transparent(payload []byte) []byte {
	leaf := w.leaf(payload)
	return attach(leaf, w.receipt(leaf, w.log, issuerURI, logURI, issued+1))
}

// token is a status list in which entry 3 has a value.
func (w *site) token(value artifact.StatusValue, edit func(*artifact.StatusList)) []byte {
	l := artifact.StatusList{Issuer: issuerURI, URI: listURI, IssuedAt: issued, Expires: issued + 120, TTL: 60, Values: make([]artifact.StatusValue, 8)}
	l.Values[3] = value
	edit(&l)
	return must(artifact.SignStatus(w.s.ctx, must(statement.NewSigner(w.status.priv)), l))
}

// vector is an artifact with everything that accepts it.
func (w *site) vector(raw []byte) *vectors.Artifact {
	return &vectors.Artifact{Raw: raw, Trust: w.trustFile(func(*artifact.Trust) {}), Now: present, Audience: gateURI,
		Status: w.token(artifact.StatusValid, func(*artifact.StatusList) {}),
		Use:    &vectors.Use{Target: program, Operations: "execute", Code: w.code.Value, Argv: w.argv}}
}

// trustFile is the trust file after a change.
func (w *site) trustFile(edit func(*artifact.Trust)) []byte {
	t := w.trust
	t.Keys, t.Policies = append([]artifact.TrustKey{}, t.Keys...), append([]artifact.Pin{}, t.Policies...)
	edit(&t)
	return must(t.Marshal())
}
