package command

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// TestFaultsHaveAdvice: a person is told what to try where the cause is a usual one, however deep it stands in the error.
func TestFaultsHaveAdvice(t *testing.T) {
	for want, err := range map[string]error{
		"path is right":      &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT},
		"nothing is overwri": &fs.PathError{Op: "open", Path: "x", Err: syscall.EEXIST},
		"is a file":          &fs.PathError{Op: "mkdir", Path: "x", Err: syscall.ENOTDIR},
		"is a directory":     &fs.PathError{Op: "read", Path: "x", Err: syscall.EISDIR},
		"as the user":        &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES},
		"nobody listens":     &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"--ca":               x509.UnknownAuthorityError{},
		"valid now":          x509.CertificateInvalidError{Reason: x509.Expired},
	} {
		if got := Advice(fmt.Errorf("doing something: %w", err)); !strings.Contains(got, want) {
			t.Errorf("got %q, want it to say %q", got, want)
		}
	}
	if got := Advice(errors.New("something else")); got != "" {
		t.Errorf("got %q about what nobody knows", got)
	}
}

// TestStrangersAreAdvised: each condition that an issuer may answer with has its own advice or the common one, never none.
func TestStrangersAreAdvised(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []denial.Condition{denial.ConditionMissing, denial.ConditionExpired, denial.ConditionBadProof, denial.ConditionUndecidable} {
		got := StrangerAdvice(c.String())
		if other, twice := seen[got]; twice || got == StrangerAdvice("") {
			t.Errorf("%s is advised as %q is", c, other)
		}
		seen[got] = c.String()
	}
	if !strings.Contains(StrangerAdvice(""), "strangers") {
		t.Error("other conditions have no advice")
	}
}
