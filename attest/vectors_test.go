package attest_test

import (
	"testing"

	"github.com/governed-execution/writ/test/vectors"
)

// TestVectors runs the published vectors of evidence and of enrolment, so that the tests of the package itself notice
// what they break.
func TestVectors(t *testing.T) {
	t.Parallel()
	all, err := vectors.Load("../test/vectors/v1")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, v := range all {
		if v.Evidence == nil && v.Enrolment == nil {
			continue
		}
		ran++
		if err := vectors.Run(v); err != nil {
			t.Error(err)
		}
	}
	if ran < 280 {
		t.Errorf("%d vectors of evidence and enrolment: some are missing", ran)
	}
}
