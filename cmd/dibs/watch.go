package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

func newWatch() *cobra.Command {
	var request client.WatchRequest
	cmd := outputFlag(&cobra.Command{
		Use: "watch", Short: "Print what is decided, as it happens",
		Long: `Print what is decided, as it happens, one line each: everything that the key may see, from now on. With -o json a line
is the record as it is on the topic, with an id; --since goes on behind that id. A connection that is lost is made again,
and nothing is missed, but a line may come twice. Ctrl-C ends it, and says where it was.

The API key comes from DIBS_API_KEY, or from the file that DIBS_API_KEY_FILE names. Exit code 0: ended by Ctrl-C, 1: it
cannot go on, such as from an id that the topic has passed, 5: the API is out of reach.`,
		Args: exactArgs(0, "no arguments"),
	})
	f := cmd.Flags()
	address := f.String("url", "http://127.0.0.1:8080", "where the API is")
	f.StringVar(&request.Space, "space", "", "names of this space only")
	f.StringVar(&request.After, "since", "", "id to go on behind")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		if request.After == "" && cmd.Flags().Changed("since") { // a script has lost it: to begin now would miss something
			return usage("--since is empty: an id is needed")
		}
		secret, err := apiKey()
		if err != nil {
			return err
		}
		c, err := client.New(*address, client.WithKey(secret), client.WithDialTries(dialTries))
		if err != nil {
			return usage("%v", err)
		}
		last := request.After
		request.Moved = func(id string) { last = id }
		write := tellEvent(cmd.OutOrStdout(), asJSON)
		for event, err := range c.Watch(cmd.Context(), request) {
			switch {
			case err != nil && cmd.Context().Err() != nil: // Ctrl-C
				if last != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "to go on from here: --since %s\n", last)
				}
				return nil
			case err != nil:
				return watchExit(*address, err)
			}
			if err := write(event); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// tellEvent writes events as they come: a line is written at once, for whoever reads along.
func tellEvent(out io.Writer, asJSON bool) func(client.Event) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return func(e client.Event) error { return encoder.Encode(e) }
	}
	return func(e client.Event) error {
		what := fmt.Sprintf("version %d", e.Version)
		switch {
		case e.Outcome == "Rejected":
			what = e.Reason
		case e.Owner != "":
			what = e.Owner + ", " + what
		}
		_, err := fmt.Fprintf(out, "%s  %-11s  %-40s  %s\n", e.LogTime.Local().Format("15:04:05.000"), strings.ToLower(e.Outcome), called(e.Space, e.Key, e.Name), what)
		return err
	}
}

// watchExit gives the end of a watch an exit code, and says what to do about it.
func watchExit(address string, err error) error {
	var problem *client.Problem
	if errors.As(err, &problem) && problem.Reason == "position_gone" {
		return fmt.Errorf("%w\nwhat came behind that id is not kept any more: watch without --since, and read the names that matter", err)
	}
	return asExit(address, err)
}
