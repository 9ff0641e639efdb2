package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/processor"
)

// Signer signs requests with a key that holds in all partitions, as far as is known: holds says what does by now. It is nil
// where there is no key.
func (d *Deployment) Signer(holds func() api.Holding) func(cloudevents.Record) cloudevents.Record {
	if len(d.Keys.All) == 0 {
		return nil
	}
	return func(r cloudevents.Record) cloudevents.Record {
		return d.Keys.All.Signing(d.Keys.Signing, holds().Keys).Sign(r)
	}
}

// errNoRequestKeys says what to do about a missing file.
var errNoRequestKeys = errors.New("security.request_keys_file is not set. All processes of a deployment have the same; make one with dibs keys request FILE")

// checkKeys refuses settings with which requests would be signed, and cannot be.
func (d *Deployment) checkKeys() error {
	if d.Config.Security.RequireSignatures == config.SignAll && len(d.Keys.All) == 0 {
		return fmt.Errorf("security.require_signatures is all, and %w", errNoRequestKeys)
	}
	return nil
}

// checkInForce refuses to start where a process lacks what holds in a partition: as a processor it would halt it, as an
// API its requests would be rejected.
func (d *Deployment) checkInForce(ctx context.Context, asProcessor bool) error {
	var rows []processor.Standing
	err := d.reach(ctx, "Postgres", func(ctx context.Context) (err error) {
		rows, err = d.Record.All(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return d.lacks(rows, asProcessor)
}

// lacks says what a process has not got of what holds.
func (d *Deployment) lacks(rows []processor.Standing, asProcessor bool) error {
	for _, row := range rows {
		f := row.InForce
		_, err := processor.Rules{Policies: d.Policies, Keys: d.Keys.All}.Under(f)
		switch {
		case asProcessor && err != nil:
			return fmt.Errorf("partition %d: %w", row.Partition, err)
		case f == nil || int(row.Partition) >= d.Contract.Partitions: // nothing is lacking, or no request is meant for it
		case f.SignedOnly && len(d.Keys.All) == 0:
			return fmt.Errorf("every request must be signed by what dibs spaces apply has made hold, and %w", errNoRequestKeys)
		case len(d.Keys.All) > 0 && len(f.Keys) > 0:
			if some, _ := d.Keys.All.Only(f.Keys); len(some) == 0 {
				return fmt.Errorf("what this process signs is rejected: its security.request_keys_file has %s, and in partition %d signatures hold that are made with %s: add one of those",
					strings.Join(sortedKeys(d.Keys.All), ", "), row.Partition, strings.Join(f.Keys, ", "))
			}
		}
	}
	return nil
}

// Held reads what holds in all partitions now.
func (d *Deployment) Held(ctx context.Context) (api.Holding, error) {
	pinned := d.Contract // zero where this is not prepared
	if pinned.Partitions == 0 {
		var err error
		if pinned, _, err = d.Record.Pinned(ctx); err != nil {
			return api.Holding{}, err
		}
	}
	rows, err := d.Record.Partitions(ctx)
	if err != nil {
		return api.Holding{}, err
	}
	return api.Hold(d.Policies, pinned.Partitions, rows), nil
}
