package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/google/uuid"
)

// WithClaimer runs f in a process that decides claims and awaits their outcomes, without HTTP: for measuring, and for
// tests.
func WithClaimer(ctx context.Context, cfg config.Config, log *slog.Logger, f func(context.Context, *api.Claimer) error) error {
	defer leaveGarbage()()
	o := Options{Config: cfg, API: true, Processor: true, Log: log}
	registry := newRegistry(o)
	d, err := Open(cfg, log, registry)
	if err != nil {
		return err
	}
	defer d.Close()
	if len(d.Keys.All) == 0 { // nobody else signs for this deployment
		key := claims.SigningKey{ID: "in-process", Secret: []byte(uuid.NewString())}
		d.Keys = auth.RequestKeys{Signing: key, All: claims.Keys{key.ID: key.Secret}, Order: []string{key.ID}}
	}
	if err := d.Prepare(ctx); err != nil {
		return err
	}
	r := &running{Options: o, d: d, registry: registry, parts: newStages(log), prepared: make(chan struct{})}
	if err := r.startInProcess(ctx); err != nil {
		return errors.Join(err, r.parts.stopAll(ctx))
	}
	err = f(ctx, r.claimer)
	select {
	case failure := <-r.parts.failed:
		err = errors.Join(failure, err)
	default:
	}
	return errors.Join(err, r.parts.stopAll(ctx))
}

// startInProcess returns when every partition is owned and claims can be taken.
func (r *running) startInProcess(ctx context.Context) error {
	if err := r.d.startOutcomes(ctx, r.parts, nil); err != nil {
		return err
	}
	if err := r.startProcessor(ctx); err != nil {
		return err
	}
	if err := r.startClaimer(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		fault := r.claimer.Ready()
		if n := len(r.processor.Status()); n < r.d.Contract.Partitions {
			fault = fmt.Errorf("%d of %d partitions are assigned", n, r.d.Contract.Partitions)
		} else if fault == nil {
			if fault = partitionFault(r.processor.Status(), time.Now()); fault == nil {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", fault)
		}
	}
}
