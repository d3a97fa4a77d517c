package firmwarepolicy

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/softtpm"
)

// Every row of the table of known CAs has all its columns, and stands there once.
func TestKnownCAs(t *testing.T) {
	all := KnownCAs()
	seen := map[string]bool{}
	vendors := map[string]int{}
	for _, c := range all {
		if sum, err := hex.DecodeString(c.SHA256); err != nil || len(sum) != 32 || seen[c.SHA256] {
			t.Errorf("%s is no digest, or stands twice", c.SHA256)
		}
		seen[c.SHA256] = true
		from, errFrom := time.Parse(time.DateOnly, c.NotBefore)
		to, errTo := time.Parse(time.DateOnly, c.NotAfter)
		if errFrom != nil || errTo != nil || !from.Before(to) || c.Name == "" || c.Signature == "" || len(c.Published) == 0 ||
			!slices.Contains([]string{"root", "intermediate", "unverified"}, c.Role) {
			t.Errorf("got %+v", c)
		}
		if c.Role == "root" {
			vendors[c.Vendor]++
		}
	}
	for _, v := range []string{"AMD", "Infineon", "Intel", "Nuvoton", "STMicroelectronics", "Microsoft", "Google", "NationZ"} {
		if vendors[v] == 0 {
			t.Errorf("no root of %s", v)
		}
	}
	if len(all) < 2000 || vendors["unknown"] > 0 {
		t.Errorf("%d rows, %d roots of nobody", len(all), vendors["unknown"])
	}
}

func TestLookupOfAnUnknownCA(t *testing.T) {
	if got, ok := LookupCA(softtpm.NewVendor(t).Root); ok {
		t.Errorf("got %+v for a CA made just now", got)
	}
}

// The advisories can be taken into anchors as they are, and cover what they name.
func TestAdvisories(t *testing.T) {
	_, b := anchored(t)
	b.Anchors.Firmware = Advisories()
	d, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(d.anchors.EKRules().Firmware); got != len(Advisories()) || got < 20 {
		t.Errorf("%d of %d ranges", got, len(Advisories()))
	}
	for version, want := range map[string]bool{"id:053D": true, "id:053E": false, "id:0421": true, "id:0422": false} {
		covered := slices.ContainsFunc(Advisories(), func(r attest.FirmwareRange) bool {
			return r.Covers(attest.Device{Manufacturer: "id:49465800", Model: "SLB 9665", Version: version})
		})
		if covered != want {
			t.Errorf("Infineon %s: covered %v", version, covered)
		}
	}
}
