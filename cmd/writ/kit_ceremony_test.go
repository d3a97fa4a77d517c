package main

import (
	"context"
	"fmt"

	"github.com/governed-execution/writ/ceremony"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

// oneKey is a token that makes one key.
type oneKey struct{ birth record.Birth }

func (o oneKey) Make(context.Context, string, statement.Thumbprint) (record.Birth, error) {
	return o.birth, nil
}

func (o oneKey) Read(context.Context, statement.Thumbprint) (record.Birth, error) {
	return o.birth, nil
}

// ceremony holds one: keys.toml, keys.transcript, what was signed in its last step (birth.act), and the keys of the people.
func (k *kit) ceremony() {
	var people []statement.Signer
	src := "schema = 1\ntitle = \"Key of issuer.example\"\nplace = \"Room 4\"\nissuer = \"" + issuerURI + "\"\n"
	for i, name := range []string{"alice", "bob", "wendy"} {
		s := stock.Signer(k.t)
		pub := must(s.Key().PEM())(k.t)
		people, k.files[name+".pub"] = append(people, s), pub
		src += fmt.Sprintf("[[participant]]\nperson = \"mailto:%s@example.org\"\nrole = %q\nkey = \"\"\"\n%s\"\"\"\n", name, []string{"custodian", "custodian", "witness"}[i], pub)
	}
	src += "[[step]]\ndo = \"confirm\"\nsay = \"All are present.\"\n"
	for _, do := range []ceremony.Action{ceremony.MakeKey, ceremony.ReadBack, ceremony.Birth} {
		src += fmt.Sprintf("[[step]]\ndo = %q\npurpose = \"log\"\n", do)
	}
	token := oneKey{record.Birth{Purpose: record.PurposeLog, Key: k.log.Key(), Token: map[string]string{"module": "/lib/p11.so", "serial": "0001"},
		Attributes: map[string]string{"CKA_TOKEN": "true", "CKA_PRIVATE": "true", "CKA_SENSITIVE": "true", "CKA_ALWAYS_SENSITIVE": "true",
			"CKA_NEVER_EXTRACTABLE": "true", "CKA_EXTRACTABLE": "false", "CKA_LOCAL": "true", "CKA_MODIFIABLE": "false", "CKA_COPYABLE": "false",
			"CKA_ALWAYS_AUTHENTICATE": "false", "CKA_KEY_GEN_MECHANISM": "CKM_EC_KEY_PAIR_GEN", "usage": "sign"}}}
	st := must(ceremony.Replay(must(ceremony.Parse([]byte(src)))(k.t), nil))(k.t)
	for !st.Complete() {
		d := must(st.Prepare(context.Background(), token, nil, k.now))(k.t)
		b := must(d.Sign(context.Background(), people[0]))(k.t)
		for _, p := range people[1:] {
			b = must(b.Cosign(context.Background(), p))(k.t)
		}
		if err := st.Append(b); err != nil {
			k.t.Fatal(err)
		}
		k.files["birth.act"] = must(b.Encode())(k.t)
	}
	k.files["keys.toml"], k.files["keys.transcript"] = []byte(src), must(st.Transcript().Encode())(k.t)
}
