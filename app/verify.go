package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/verify"
)

// VerifyOptions say what of a deployment is verified.
type VerifyOptions struct {
	Partitions     []int32 // none for all
	MaxDifferences int
	// Watch, if set, gets the run before it begins.
	Watch func(*verify.Verifier)
}

// Verify compares what a deployment has stored and published with what its log says, beside whatever works on it. It
// writes nothing. The report is of what was seen, also beside an error.
func Verify(ctx context.Context, cfg config.Config, log *slog.Logger, o VerifyOptions) (verify.Report, error) {
	d, err := Open(cfg, log, nil)
	if err != nil {
		return verify.Report{}, err
	}
	defer d.Close()
	if err := d.findContract(ctx); err != nil {
		return verify.Report{}, err
	}
	if err := d.checkEraser(ctx); err != nil {
		return verify.Report{}, err
	}
	v := verify.New(verify.Config{
		Rules:      processor.Rules{Partitions: d.Contract.Partitions, Policies: d.Policies, Keys: d.Keys.All, Eraser: d.Eraser},
		Partitions: o.Partitions, MaxDifferences: o.MaxDifferences,
	}, d.Record.Verification(), kafka.NewReplay(d.Kafka, d.Kafka.Claims(), patience), kafka.NewReplay(d.Kafka, d.Kafka.Registrations(), patience))
	if o.Watch != nil {
		o.Watch(v)
	}
	report, err := v.Run(ctx)
	return report, unreachable(err)
}

// checkEraser makes sure that what was erased can be recognised: everything that was read until it cannot be would have been
// read for nothing.
func (d *Deployment) checkEraser(ctx context.Context) error {
	err := d.reach(ctx, "Postgres", d.Record.FitsErasures)
	if errors.Is(err, postgres.ErrSecret) && d.Eraser == nil {
		return verify.ErrSecret
	}
	return err
}

// findContract reads the pinned contract, and makes sure that these are its topics. Unlike Prepare it pins nothing.
func (d *Deployment) findContract(ctx context.Context) error {
	if err := d.checkRecord(ctx); err != nil {
		return err
	}
	var is bool
	err := d.reach(ctx, "Postgres", func(ctx context.Context) (err error) {
		d.Contract, is, err = d.Record.Pinned(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if !is {
		return errors.New("no topic is pinned in this schema: no processor or API has ever started on it")
	}
	return d.reach(ctx, "Kafka", func(ctx context.Context) error {
		found := postgres.Contract{Topic: d.Kafka.Claims()}
		var err error
		if found.Partitions, err = d.Kafka.Partitions(ctx, found.Topic); err != nil {
			return err
		}
		if found.ClusterID, err = d.Kafka.ClusterID(ctx); err != nil {
			return err
		}
		if found.ClusterID == "" || d.Contract.ClusterID == "" {
			found.ClusterID = d.Contract.ClusterID
		}
		if broken := (&postgres.ContractError{Pinned: d.Contract, Found: found}); found != d.Contract && !broken.Grown() {
			return broken
		}
		return nil
	})
}

// unreachable adds ErrUnreachable to an error that says that a server went away.
func unreachable(err error) error {
	var answer interface{ SQLState() string }
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, ErrUnreachable):
		return err
	case errors.Is(err, kafka.ErrSilent):
		return fmt.Errorf("Kafka is %w: %w", ErrUnreachable, err)
	case errors.As(err, &answer):
		if state := answer.SQLState(); len(state) == 5 && (state[:2] == "08" || state[:2] == "57") { // the connection, or a shutdown
			return fmt.Errorf("Postgres is %w: %w", ErrUnreachable, err)
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("Postgres is %w: %w", ErrUnreachable, err)
	}
	return err
}
