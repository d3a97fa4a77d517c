package hsm

import (
	"strconv"
	"strings"

	"github.com/governed-execution/writ/record"
)

// Birth returns the facts in words, as they stand in a record.
func (a Attributes) Birth() record.Birth {
	b := strconv.FormatBool
	birth := record.Birth{Purpose: a.Purpose.String(), Key: a.Key,
		Attributes: map[string]string{
			"CKA_TOKEN": b(a.OnToken), "CKA_PRIVATE": b(a.Private), "CKA_SENSITIVE": b(a.Sensitive),
			"CKA_ALWAYS_SENSITIVE": b(a.AlwaysSensitive), "CKA_NEVER_EXTRACTABLE": b(a.NeverExtractable),
			"CKA_EXTRACTABLE": b(a.Extractable), "CKA_LOCAL": b(a.Local), "CKA_MODIFIABLE": b(a.Modifiable),
			"CKA_COPYABLE": b(a.Copyable), "CKA_ALWAYS_AUTHENTICATE": b(a.AlwaysAuth),
			"CKA_KEY_GEN_MECHANISM": a.Mechanism, "usage": strings.Join(a.Usage, ","),
		},
		Token: map[string]string{"module": a.Token.Module, "library": a.Token.Library, "label": a.Token.Label,
			"serial": a.Token.Serial, "manufacturer": a.Token.Manufacturer, "model": a.Token.Model}}
	for n, v := range a.Token.Validations {
		birth.Token["validation "+strconv.Itoa(n+1)] = v.String()
	}
	return birth
}
