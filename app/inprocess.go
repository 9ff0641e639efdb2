package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
)

// WithClaimer runs f in a process that claims and awaits outcomes, without HTTP: for measuring, and for tests. Where o.Processor
// is not set, others decide.
func WithClaimer(ctx context.Context, o Options, f func(context.Context, *api.Claimer) error) error {
	o.API = true
	registry := newRegistry(o)
	d, err := Open(o.Config, o.Log, registry)
	if err != nil {
		return err
	}
	defer d.Close()
	if o.Processor && len(d.Keys.All) == 0 { // nobody else signs for this deployment
		key := claims.SigningKey{ID: "in-process", Secret: []byte(uuid.NewString())}
		d.Keys = auth.RequestKeys{Signing: key, All: claims.Keys{key.ID: key.Secret}, Order: []string{key.ID}}
	}
	if err := d.Prepare(ctx); err != nil {
		return err
	}
	r := &running{Options: o, d: d, registry: registry, parts: newStages(o.Log), prepared: make(chan struct{})}
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

// startInProcess returns when claims can be taken, and every partition is owned by the processor in here.
func (r *running) startInProcess(ctx context.Context) error {
	if err := r.d.startOutcomes(ctx, r.parts, nil); err != nil {
		return err
	}
	if r.Processor {
		if err := r.startProcessor(ctx); err != nil {
			return err
		}
	}
	if err := r.startClaimer(ctx); err != nil {
		return err
	}
	if !r.Processor {
		return r.awaitClaimer(ctx)
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
