package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Update changes a name as it is: change is given the name and asks for something with IfVersion, or with a claim's
// ExpectedVersion. Where somebody else was faster (version_conflict) the name is read again and change called again,
// until it goes through, is rejected for another reason, or ctx ends: then the result is the last rejection, with the
// error of ctx.
//
// change decides anew each time; it may also do nothing, and return the zero Result.
func (c *Client) Update(ctx context.Context, space, name string, change func(ctx context.Context, n Name) (Result, error)) (Result, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	for pause := conflictPause; ; pause = min(2*pause, longestPause) {
		n, err := c.Name(ctx, space, name)
		if err != nil {
			return Result{}, fmt.Errorf("update: %w", err)
		}
		result, err := change(ctx, n)
		if err != nil || result.State != Rejected || result.Reason != versionConflict {
			return result, err
		}
		if err := sleep(ctx, rand.N(pause)+time.Millisecond); err != nil {
			return result, fmt.Errorf("update: %w", err)
		}
	}
}

const (
	versionConflict = "version_conflict"
	// conflictPause is short: who was faster is done.
	conflictPause = 10 * time.Millisecond
)
