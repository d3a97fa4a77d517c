package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
)

// X21: what writ delegate would have signed is within the artifact, or it says why not.
func TestX21_DelegateStaysWithinTheArtifact(t *testing.T) {
	now := uint64(time.Now().Unix())
	code := artifact.SHA256Digest([32]byte{1})
	parent := func() *artifact.Claims {
		return &artifact.Claims{Subject: hostURI, Expires: now + 600, Limits: &artifact.Limits{Uses: 1, Depth: 2}, Scope: artifact.Scope{
			{Target: "file:/usr/bin/a", Terms: artifact.Terms{Operations: artifact.Execute | artifact.Delegate, Code: []artifact.Digest{code}}},
			{Target: "file:/usr/bin/b", Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{code}}},
			{Target: "tool:c", Terms: artifact.Terms{Operations: artifact.Read | artifact.Delegate}}}}
	}
	for name, c := range map[string]struct {
		flags  delegateFlags
		parent func(*artifact.Claims)
		want   string // scope; empty: misuse
	}{
		"all that may be":       {delegateFlags{}, nil, "execute file:/usr/bin/a code=" + code.String() + "\nread tool:c"},
		"one":                   {delegateFlags{targets: []string{"tool:c"}}, nil, "read tool:c"},
		"in turn":               {delegateFlags{targets: []string{"tool:c"}, depth: 1}, nil, "read+delegate tool:c"},
		"what may not be":       {delegateFlags{targets: []string{"file:/usr/bin/b"}}, nil, ""},
		"one that is not":       {delegateFlags{targets: []string{"tool:c", "tool:d"}}, nil, ""},
		"as deep":               {delegateFlags{depth: 2}, nil, ""},
		"nothing":               {delegateFlags{}, func(c *artifact.Claims) { c.Limits.Depth = 0 }, ""},
		"without limits":        {delegateFlags{}, func(c *artifact.Claims) { c.Limits = nil }, ""},
		"expired":               {delegateFlags{}, func(c *artifact.Claims) { c.Expires = now - 1 }, ""},
		"for less than no time": {delegateFlags{lifetime: -time.Second}, nil, ""},
		"for too short":         {delegateFlags{lifetime: time.Millisecond}, nil, ""},
	} {
		p := parent()
		if c.parent != nil {
			c.parent(p)
		}
		got, err := c.flags.claims(p, make([]byte, 32))
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: delegated %s", name, got.Scope)
			}
			continue
		}
		if err != nil || got.Scope.String() != c.want || got.Expires != p.Expires || got.Delegator != hostURI {
			t.Errorf("%s: got %q until %d, %v", name, got.Scope, got.Expires, err)
		}
	}
	for life, want := range map[time.Duration]uint64{time.Minute: 60, time.Hour: 600} {
		got, err := (&delegateFlags{lifetime: life}).claims(parent(), make([]byte, 32))
		if err != nil || got.Expires < now+want || got.Expires > now+want+5 {
			t.Errorf("for %s: got %d s, %v", life, got.Expires-now, err)
		}
	}
}

// TestAnArtifactOfADelegationLastsNoLonger: without a lifetime, no more is asked for than delegations leave.
func TestAnArtifactOfADelegationLastsNoLonger(t *testing.T) {
	k := newKit(t)
	path := filepath.Join(t.TempDir(), "delegation.cose")
	if err := os.WriteFile(path, k.files["delegation.cose"], 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := artifact.InspectDelegation(k.files["delegation.cose"])
	if err != nil {
		t.Fatal(err)
	}
	end := time.Unix(int64(c.Expires), 0)
	for left, want := range map[time.Duration]time.Duration{time.Hour: 5 * time.Minute, 65 * time.Second: time.Minute, 3 * time.Second: time.Second, -time.Hour: time.Second} {
		if got, err := within([]string{path}, 5*time.Minute, end.Add(-left)); err != nil || got != want {
			t.Errorf("with %s left: got %s (%v), want %s", left, got, err, want)
		}
	}
	if got, err := within(nil, 5*time.Minute, end); err != nil || got != 5*time.Minute {
		t.Errorf("without a delegation: got %s (%v)", got, err)
	}
}
