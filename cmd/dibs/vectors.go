package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/spf13/cobra"
)

func newVectors() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vectors [NAME…]",
		Short: "Print names with their keys and partitions, to test producers in other languages on",
		Long: `Print names with their key, the key of their records and the partition of these, to test a producer in another language
on: one line for each name, space and number of partitions. No server is asked.

The names are those given, or those of a file, a name on each line, or else a list of spellings that producers get wrong.
Several fields together are an object: {"tenant":"acme","email":"ada@example.com"}.

The spaces are the built-in ones, and those of a file as dibs spaces apply takes it, in place of a built-in one too.

Keys of private spaces are made with a pepper that is published, to test on: the bytes 00 01 02 ... 1f, as version 1 unless
the file says another. With yours they are others, which are looked up (POST /v1/lookups).

A given name that is none in a space is left out there, and told on standard error.

Exit codes: 0 all given names have a key in some space, 1 one of them has not, 2 wrong arguments or file.`,
	}
	var v vectors
	f := cmd.Flags()
	f.StringVar(&v.spaces, "spaces", "", "file of spaces and their policies")
	f.StringSliceVar(&v.only, "space", nil, "of these spaces only")
	f.StringVar(&v.file, "file", "", "file of names, one on each line; - is standard input")
	f.IntSliceVar(&v.partitions, "partitions", []int{12}, "how many partitions claims has; several, separated by commas, each get their lines")
	f.StringP("output", "o", "json", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.cmd, v.given = cmd, args
		return v.run()
	}
	return cmd
}

// maxPartitions is what Kafka can still tell apart.
const maxPartitions = 1<<31 - 1

// vectors is one run of the command.
type vectors struct {
	cmd          *cobra.Command
	spaces, file string
	only         []string
	partitions   []int
	given        []string // names
}

// vector is one line. It has a name or fields.
type vector struct {
	Space      names.Space       `json:"space"`
	Name       string            `json:"name,omitempty"`
	Fields     map[string]string `json:"fields,omitempty"`
	Key        names.Key         `json:"key"`
	RecordKey  string            `json:"record_key"`
	Partitions int               `json:"partitions"`
	Partition  int32             `json:"partition"`

	text string // as it was given
}

// testPepper is published: nobody has a secret from it.
var testPepper = func() []byte {
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	return secret
}()

// vectorOf is what is asked for, with its key.
func vectorOf(p *names.Policy, text string) (v vector, err error) {
	v = vector{Space: p.Space, Name: text, text: text}
	if p.Private == nil {
		v.Key, err = p.Key(text)
		return v, err
	}
	if len(p.Private.Fields) > 0 && json.Unmarshal([]byte(text), &v.Fields) == nil {
		v.Name = ""
	}
	v.Key, err = p.PrivateKey(testPepper, names.Value{Name: v.Name, Fields: v.Fields})
	return v, err
}

func (v *vectors) run() error {
	asJSON, err := wantsJSON(v.cmd)
	if err != nil {
		return err
	}
	if len(v.partitions) == 0 {
		return usage("--partitions is empty: say how many claims has")
	}
	for _, n := range v.partitions {
		if n < 1 || n > maxPartitions {
			return usage("--partitions is %d: at least 1", n)
		}
	}
	policies, err := v.policies()
	if err != nil {
		return err
	}
	asked, listed, err := v.names()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(v.cmd.OutOrStdout())
	write, end := printVectors(out, asJSON)
	nameless := 0
	for _, name := range asked {
		var why []string
		for _, p := range policies {
			line, err := vectorOf(p, name)
			if err != nil {
				why = append(why, fmt.Sprintf("%.64q in the space %s: %v", name, p.Space, err))
				continue
			}
			line.RecordKey = names.Ref{Space: p.Space, Key: line.Key}.RecordKey()
			for _, n := range v.partitions {
				line.Partitions, line.Partition = n, claims.Partition(line.RecordKey, n)
				if err := write(line); err != nil {
					return fmt.Errorf("write vectors: %w", err)
				}
			}
		}
		if listed {
			continue // it has names for every kind of space
		}
		for _, line := range why {
			fmt.Fprintln(v.cmd.ErrOrStderr(), line)
		}
		if len(why) == len(policies) {
			nameless++
		}
	}
	if err := errors.Join(end(), out.Flush()); err != nil {
		return fmt.Errorf("write vectors: %w", err)
	}
	if nameless > 0 {
		return fmt.Errorf("names without a key in any space: %d of %d", nameless, len(asked))
	}
	return nil
}

// policies are those of the spaces that were asked for, by name.
func (v *vectors) policies() ([]*names.Policy, error) {
	all := names.Builtin()
	if v.spaces != "" {
		of, err := readSpaces(v.spaces)
		if err != nil {
			return nil, err
		}
		for _, p := range of {
			if p.Private != nil {
				p = p.WithPepper(max(p.Private.Pepper, 1), testPepper)
			}
			all = all.With(p)
		}
	}
	for _, space := range v.only {
		if all[names.Space(space)] == nil {
			return nil, usage("--space is %.64q, of which no policy is known: there is %s; others come from --spaces FILE", space, spaced(all))
		}
	}
	var policies []*names.Policy
	for _, space := range slices.Sorted(maps.Keys(all)) {
		if len(v.only) == 0 || slices.Contains(v.only, string(space)) {
			policies = append(policies, all[space])
		}
	}
	return policies, nil
}

func spaced(policies names.Policies) string {
	var all []string
	for _, space := range slices.Sorted(maps.Keys(policies)) {
		all = append(all, string(space))
	}
	return strings.Join(all, ", ")
}

// names are those that were asked for; listed says that nobody did, and they are ours.
func (v *vectors) names() (asked []string, listed bool, err error) {
	switch {
	case len(v.given) > 0 && v.file != "":
		return nil, false, usage("--file goes without names")
	case len(v.given) > 0:
		return v.given, false, nil
	case v.file == "":
		return tryingNames, true, nil
	}
	from := v.cmd.InOrStdin()
	if v.file != "-" {
		f, err := os.Open(v.file)
		if err != nil {
			return nil, false, usage("--file: %v", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		from = f
	}
	asked, err = readLines(from)
	if err != nil {
		return nil, false, usage("--file %s: %v", v.file, err)
	}
	if len(asked) == 0 {
		return nil, false, usage("--file %s has no names", v.file)
	}
	return asked, false, nil
}

// readLines reads lines that are not empty. Nothing is trimmed but their ends: a space is part of what was typed.
func readLines(from io.Reader) (lines []string, err error) {
	scanner := bufio.NewScanner(from)
	for scanner.Scan() {
		if scanner.Text() != "" {
			lines = append(lines, scanner.Text())
		}
	}
	return lines, scanner.Err()
}

// printVectors returns what writes one, and what is to be called behind the last.
func printVectors(to io.Writer, asJSON bool) (write func(vector) error, end func() error) {
	if asJSON {
		encoder := json.NewEncoder(to)
		encoder.SetEscapeHTML(false) // < > & as they are: the file is compared byte by byte
		return func(v vector) error { return encoder.Encode(v) }, func() error { return nil }
	}
	tw := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "SPACE\tNAME\tRECORD KEY\tPARTITION\tOF") // an error comes back from Flush
	return func(v vector) error {
		_, err := fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\n", v.Space, v.text, v.RecordKey, v.Partition, v.Partitions)
		return err
	}, tw.Flush
}
