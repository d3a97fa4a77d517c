package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (a *app) genesisCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "genesis", Short: "Fetch the issuer's genesis, to compare with the one that you pin"}
	cmd.AddCommand(a.genesisFetch())
	return cmd
}

func (a *app) genesisFetch() *cobra.Command {
	var out, pin string
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Write the issuer's genesis act and print its digest",
		Long: `Fetch writes the act and prints the digest of its payload. The issuer's word for it is worth nothing: compare the digest with
the one that the authorities told you, or give it with --digest. Then read the act: writ inspect statement FILE.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.fetchGenesis(cmd, out, pin) },
	}
	cmd.Flags().StringVarP(&out, "out", "o", "genesis.act", "file of the act")
	cmd.Flags().StringVar(&pin, "digest", "", "refuse a genesis with another digest than this")
	return cmd
}

// fetchGenesis writes the act if the people that it names have signed it and if it is the pinned one, if one is pinned.
func (a *app) fetchGenesis(cmd *cobra.Command, out, pin string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	b, err := c.Genesis(cmd.Context())
	if err != nil {
		return err
	}
	g, act, err := record.VerifyGenesis(b, statement.Digest{})
	if err != nil {
		return err
	}
	digest := act.Digest()
	if pin != "" && pin != digest.String() {
		return denial.New(denial.KeyUnknown, "the issuer's genesis is %s, not the pinned one", digest)
	}
	data, err := b.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, data, 0o644); err != nil {
		return fmt.Errorf("writing genesis: %w", err)
	}
	return a.print(cmd, map[string]any{"file": out, "digest": digest.String(), "pinned": pin != "", "issuer": clean(g.Issuer), "persons": act.Persons()},
		fmt.Sprintf("genesis %s of %s\nsigned by %d person(s), written to %s", digest, clean(g.Issuer), len(act.Persons()), out))
}
