package command

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
)

// Advice says what to try about a fault whose cause has a usual remedy, and "" about others.
func Advice(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "see that the path is right, and that whatever makes it or listens there has run"
	case errors.Is(err, fs.ErrExist):
		return "nothing is overwritten: choose another name, or move away what is there"
	case errors.Is(err, syscall.ENOTDIR):
		return "a part of the path is a file, where a directory belongs"
	case errors.Is(err, syscall.EISDIR):
		return "that is a directory: name a file"
	case errors.Is(err, fs.ErrPermission):
		return "run this as the user to whom it belongs, and see that directory and file let that user in"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: see that it runs, and that the address is right"
	case errors.As(err, &unknown):
		return "give the roots of the server's TLS certificate (--ca, or ca in the configuration file)"
	case errors.As(err, &host), errors.As(err, &invalid):
		return "have the server show a certificate that is valid now and for exactly the name that you connect to"
	}
	return ""
}

// StrangerAdvice says what to try where the issuer tells no more than a condition, because it does not know the caller.
func StrangerAdvice(condition string) string {
	const more = "; code and reason are for who may read the issuer's log"
	switch condition {
	case denial.ConditionMissing.String():
		return "see that the authorities have approved this host or initiator, and that the host is enrolled" + more
	case denial.ConditionExpired.String():
		return "look at the clock, and make what has expired anew" + more
	case denial.ConditionBadProof.String():
		return "a key, signature or certificate does not hold: see that it is the approved one, that nobody signed twice, and that certificates between the TPM's and its vendor's root are given (--intermediate)" + more
	case denial.ConditionUndecidable.String():
		return "see that the address is the issuer's, and ask its operator whether it is healthy" + more
	}
	return "the issuer tells strangers no more" + more
}

// Help returns the command line that explains a command.
func Help(cmd *cobra.Command) string { return cmd.CommandPath() + " --help" }
