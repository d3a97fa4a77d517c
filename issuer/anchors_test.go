package issuer_test

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

const anchorsID = "https://issuer.example/anchors"

// anchors returns a policy of kind anchors.
func anchors(w *issuertest.World, version int, more ...string) string {
	return fmt.Sprintf("schema = 1\nkind = \"anchors\"\nid = %q\nversion = %d\nexpires = %s\n", anchorsID, version,
		w.Now().Add(24*time.Hour).Format(time.RFC3339)) + strings.Join(more, "\n")
}

func block(table, kind string, der []byte) string {
	return fmt.Sprintf("[[%s]]\npem = '''\n%s'''", table, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func root(v *softtpm.Vendor) string { return block("root", "CERTIFICATE", v.Root.Raw) }

// machine is an approved host with a TPM of the vendor.
func machine(w *issuertest.World, v *softtpm.Vendor, name string, listed bool) *issuertest.Host {
	w.Helper()
	h := w.NewHost(issuertest.HostURI+"/"+name, issuertest.Gate)
	h.TPM = v.New(w, softtpm.Options{})
	e := w.Approval(h)
	e.Host.Listed = listed
	w.Apply(statement.Enrolment, e)
	return h
}

// refusedToEnrol fails the test unless the TPM is refused for the reason.
func refusedToEnrol(w *issuertest.World, h *issuertest.Host, want denial.Reason) {
	w.Helper()
	_, err := w.Begin(issuer.NewConnection(), h)
	w.Refusal(err, want)
}

func TestAnchorsInForce(t *testing.T) {
	w := issuertest.New(t)
	b := softtpm.NewVendor(t)
	ours, theirs := machine(w, w.Vendor, "ours", false), machine(w, b, "theirs", false)
	refusedToEnrol(w, theirs, denial.EKUntrusted)
	w.Publish(anchors(w, 1, root(b)))
	w.Activate(theirs)
	w.Activate(ours) // what genesis pins goes on
	t.Run("dropped by the next version", func(t *testing.T) {
		w := w.For(t)
		w.Publish(anchors(w, 2, root(softtpm.NewVendor(t))))
		refusedToEnrol(w, machine(w, b, "late", false), denial.EKUntrusted)
		w.Activate(machine(w, b, "vouched", true))
		w.Permit() // who is enrolled stays so
	})
	t.Run("an older version", func(t *testing.T) {
		w := w.For(t)
		p := w.Policy(anchors(w, 1, root(b)))
		_, err := w.Issuer.Apply(w.Ctx, statement.Policy, w.Sign(statement.Policy, p, issuertest.Alice, issuertest.Bob))
		w.Refusal(err, denial.PolicyRollback)
	})
	t.Run("signed by one of two", func(t *testing.T) {
		w := w.For(t)
		p := w.Policy(anchors(w, 9, root(b)))
		_, err := w.Issuer.Apply(w.Ctx, statement.Policy, w.Sign(statement.Policy, p, issuertest.Alice))
		w.Refusal(err, denial.PolicyUnsigned)
	})
	t.Run("a root of genesis withdrawn", func(t *testing.T) {
		w := w.For(t)
		w.Publish(anchors(w, 3, fmt.Sprintf("withdrawn = [\"%x\"]", sha256.Sum256(w.Vendor.Root.Raw)), root(b)))
		refusedToEnrol(w, machine(w, w.Vendor, "withdrawn", false), denial.EKUntrusted)
		w.Activate(machine(w, b, "other", false))
	})
	t.Run("after a restart", func(t *testing.T) {
		w := w.For(t)
		w.Reopen()
		refusedToEnrol(w, machine(w, w.Vendor, "withdrawn-2", false), denial.EKUntrusted)
		w.Activate(machine(w, b, "other-2", false))
	})
}

func TestAnchorsThatEnd(t *testing.T) {
	w := issuertest.New(t)
	b := softtpm.NewVendor(t)
	text := anchors(w, 1, root(b))
	w.Publish(text)
	t.Run("while a TPM is asked", func(t *testing.T) {
		w := w.For(t)
		conn := issuer.NewConnection()
		secret, err := w.Begin(conn, machine(w, b, "asked", false))
		if err != nil {
			t.Fatal(err)
		}
		w.Publish(anchors(w, 2, root(b), root(softtpm.NewVendor(t))))
		_, err = w.Issuer.FinishEnrolment(w.Ctx, conn, secret)
		w.Refusal(err, denial.EKUntrusted)
	})
	t.Run("withdrawn", func(t *testing.T) {
		w := w.For(t)
		text := anchors(w, 3, root(b))
		w.Publish(text)
		doc, err := firmwarepolicy.ParseTOML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		conn := issuer.NewConnection()
		secret, err := w.Begin(conn, machine(w, b, "before", false))
		if err != nil {
			t.Fatal(err)
		}
		w.Apply(statement.Revocation, w.Revocation(record.CausePolicy, doc.Hash().String()))
		_, err = w.Issuer.FinishEnrolment(w.Ctx, conn, secret)
		w.Refusal(err, denial.PolicyWithdrawn)
		refusedToEnrol(w, machine(w, b, "after", false), denial.PolicyWithdrawn)
		w.Activate(machine(w, b, "vouched", true))
	})
	t.Run("expired", func(t *testing.T) {
		w := w.For(t)
		w.Publish(anchors(w, 4, root(b)))
		w.Advance(24 * time.Hour)
		refusedToEnrol(w, machine(w, w.Vendor, "too-late", false), denial.PolicyExpired)
		w.Activate(machine(w, w.Vendor, "vouched-2", true))
	})
}

func TestAnchorsRules(t *testing.T) {
	w := issuertest.New(t)
	version := 0
	publish := func(w *issuertest.World, more ...string) {
		version++
		w.Publish(anchors(w, version, more...))
	}
	list := func(valid time.Duration, serials ...*big.Int) string {
		return block("list", "X509 CRL", w.Vendor.Revoke(t, valid, serials...).Raw)
	}
	h := machine(w, w.Vendor, "machine", false)
	mine := big.NewInt(2) // softtpm gives every EK certificate this number
	publish(w, root(w.Vendor), list(time.Hour, mine))
	refusedToEnrol(w, h, denial.HostRevoked) // K17
	publish(w, root(w.Vendor), list(0))
	refusedToEnrol(w, h, denial.RevocationUnknown) // K17
	publish(w, "lists_required = true", root(w.Vendor))
	refusedToEnrol(w, h, denial.RevocationUnknown)
	publish(w, root(w.Vendor), "[[firmware]]\nmanufacturer = \"00001014\"\nfrom = \"0.0\"\nto = \"65535.65535\"\nwhy = \"test\"")
	refusedToEnrol(w, h, denial.TPMFirmware) // K16
	publish(w, "lists_required = true", root(w.Vendor), list(time.Hour, big.NewInt(3)),
		"[[firmware]]\nmanufacturer = \"00001014\"\nfrom = \"0.0\"\nto = \"1.0\"\nwhy = \"test\"")
	w.Activate(h)
}
