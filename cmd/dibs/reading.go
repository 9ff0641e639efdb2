package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

const aboutReading = `

What is read is advice, true when it was read: only a claim decides. The API key comes from DIBS_API_KEY, or from the file
that DIBS_API_KEY_FILE names; it needs the scope read. Exit code 5: the API is out of reach.`

func newNames() *cobra.Command {
	var owner, space string
	var plain bool
	cmd := outputFlag(&cobra.Command{
		Use: "names NAME | --owner ID", Short: "Read who holds a name, or which names an owner holds",
		Long: "Read who holds a name, or which names an owner holds. With -o json each name is a line." + aboutReading + aboutAddress,
	})
	connect := connecting(cmd, "how long to try")
	cmd.Flags().StringVar(&owner, "owner", "", "list what this owner holds, in all spaces unless --space says one")
	cmd.Flags().StringVar(&space, "space", "username", "the space of the name")
	cmd.Flags().BoolVar(&plain, "plain", false, plainUsage)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (owner == "") == (len(args) == 0) || len(args) > 1 {
			return usage("%s takes a name, or --owner; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		}
		return read(cmd, connect, func(c *client.Client, tell func(v any, text string) error) error {
			if owner == "" {
				name, err := inAddress(cmd.Context(), c, space, args[0], plain)
				if err != nil {
					return err
				}
				n, err := c.Name(cmd.Context(), space, name)
				if err != nil {
					return err
				}
				return tell(n, nameText(n))
			}
			var options []client.OwnerNamesOption
			if cmd.Flags().Changed("space") {
				options = append(options, client.InSpace(space))
			}
			for n, err := range c.OwnerNames(cmd.Context(), owner, options...) {
				if err == nil {
					err = tell(n, nameText(n))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

// nameText says who holds a name.
func nameText(n client.Name) string {
	text := fmt.Sprintf("%s: %s", called(n.Space, n.Key, n.Name), n.State)
	if n.Owner != "" {
		text += " by " + n.Owner
	}
	if !n.ExpiresAt.IsZero() {
		text += " until " + n.ExpiresAt.Format(time.RFC3339)
	}
	switch n.Reason { // which its state does not say
	case "reserved_word":
		text += ", a reserved word"
	case "confusable":
		text += ", but it looks like one that is taken"
	}
	return fmt.Sprintf("%s, version %d", text, n.Version)
}

// called is what people call a name: its key, or how it was typed where that is more than a matter of capitals. Where
// look-alikes are kept apart, a key need not be a name at all.
func called(space, key, name string) string {
	if name == "" || strings.EqualFold(name, key) {
		name = key
	}
	return space + "/" + oneLine(name)
}

func newLookup() *cobra.Command {
	var space string
	var fields fieldsFlag
	cmd := outputFlag(&cobra.Command{
		Use: "lookup NAME | --field NAME=VALUE", Short: "Compute the key of a name, or of the value of a private space",
		Long: "Compute the key of a name, or of the value of a private space: what the address of a private name has in its place, and\n" +
			"what a producer writes. The API key needs the scope lookup. Exit code 5: the API is out of reach.",
	})
	connect := connecting(cmd, "how long to try")
	cmd.Flags().StringVar(&space, "space", "username", "the space of the name")
	cmd.Flags().Var(&fields, "field", "one of several fields that are unique together; once for each")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (fields == nil) == (len(args) == 0) || len(args) > 1 {
			return usage("%s takes a name, or --field; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		}
		return read(cmd, connect, func(c *client.Client, tell func(v any, text string) error) error {
			name := ""
			if fields == nil {
				name = args[0]
			}
			k, err := c.Lookup(cmd.Context(), space, name, fields)
			if err != nil {
				return err
			}
			return tell(k, k.Key)
		})
	}
	return cmd
}

func newHistory() *cobra.Command {
	var space string
	var plain bool
	var from int64
	cmd := outputFlag(&cobra.Command{
		Use: "history NAME", Short: "Read what happened to a name",
		Long: "Read what happened to a name: every change, with who asked for it and, where an actor did, why. With -o json each is\na line." + aboutReading + aboutAddress,
		Args: exactArgs(1, "a name"),
	})
	connect := connecting(cmd, "how long to try")
	cmd.Flags().StringVar(&space, "space", "username", "the space of the name")
	cmd.Flags().BoolVar(&plain, "plain", false, plainUsage)
	cmd.Flags().Int64Var(&from, "from", 1, "the version to begin with")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return read(cmd, connect, func(c *client.Client, tell func(v any, text string) error) error {
			name, err := inAddress(cmd.Context(), c, space, args[0], plain)
			if err != nil {
				return err
			}
			nothing := true
			for e, err := range c.History(cmd.Context(), space, name, from) {
				if err == nil {
					nothing = false
					err = tell(e, entryText(e, name))
				}
				if err != nil {
					return err
				}
			}
			if nothing {
				since := ""
				if from > 1 {
					since = fmt.Sprintf(" from version %d on", from)
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "nothing has happened to %s/%s%s\n", oneLine(space), oneLine(name), since)
			}
			return nil
		})
	}
	return cmd
}

// entryText says what happened to a name, and to which, where it was one that only looks like the one that is asked about.
func entryText(e client.Entry, asked string) string {
	text := fmt.Sprintf("%d  %s  %s", e.Version, e.At.Format(time.RFC3339), strings.ToLower(e.Outcome))
	if e.Owner != "" {
		text += "  " + e.Owner
	}
	if e.Name != "" && !strings.EqualFold(e.Name, asked) {
		text += ", as " + oneLine(e.Name)
	}
	if e.Actor != "" {
		text += fmt.Sprintf("  by %s: %s", oneLine(e.Actor), oneLine(e.Reason))
	}
	return text
}

// oneLine keeps what somebody has written from looking like more lines of ours, from steering the terminal, and from
// hiding or turning around what it says: control characters, other ends of lines, and what Unicode calls a format.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, s)
}

// read runs what reads from the API, and tells what it finds: a line each, as text or JSON.
func read(cmd *cobra.Command, connect func() (*client.Client, string, error),
	do func(c *client.Client, tell func(v any, text string) error) error,
) error {
	asJSON, err := wantsJSON(cmd)
	if err != nil {
		return err
	}
	c, address, err := connect()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	encoder := json.NewEncoder(out)
	err = do(c, func(v any, text string) error {
		if asJSON {
			return encoder.Encode(v)
		}
		_, err := fmt.Fprintln(out, text)
		return err
	})
	if err != nil {
		return asExit(address, err)
	}
	return nil
}
