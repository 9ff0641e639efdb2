package api

import (
	"context"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// Look is what is known of a name. Why it cannot be had is empty where it can.
type Look struct {
	Ref    names.Ref
	Name   string // as its holder typed it, or as asked
	Reason registrations.Reason
	registrations.Holding
}

// Look reads who holds a name: advice, as of now. The error is a *Refused.
func (c *Claimer) Look(ctx context.Context, space names.Space, name string) (Look, error) {
	found := newFindings()
	ref, policy := found.name(c.cfg.Policies, space, name)
	if err := found.refused(); err != nil {
		return Look{}, err
	}
	look := Look{Ref: ref, Name: name}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var err error
	if look.Holding, err = c.lookup.Name(ctx, look.Ref); err != nil {
		return Look{}, unavailable(err)
	}
	if look.Due(c.cfg.Now()) { // whoever asks for it next gets it
		look.Holding = registrations.Holding{State: registrations.Free, Version: look.Version}
	}
	if look.State == "" {
		look.State = registrations.Free
	}
	if look.Held() {
		look.Name = look.Holding.Name
	}
	switch { // in the order of the decision
	case policy.IsReserved(ref.Key):
		look.Reason = registrations.ReservedWord
	case look.State == registrations.StateBlocked:
		look.Reason = registrations.NameBlocked
	case look.State == registrations.Cooling:
		look.Reason = registrations.CoolingDown
	case look.Held():
		look.Reason = registrations.Taken
	}
	return look, nil
}
