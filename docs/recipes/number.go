package recipes

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/client"
)

// Number gives an invoice the first number from n on that nobody has. n is where the search begins, such as behind the
// last number you know of; keep it with the invoice, so that a search that was broken off finds the same number.
func Number(ctx context.Context, dibs *client.Client, invoice string, year, n int) (string, error) {
	for ; ; n++ {
		number := fmt.Sprintf("%d-%06d", year, n)
		result, err := dibs.Claim(ctx, client.Claim{Name: number, Owner: invoice, IdempotencyKey: invoice})
		switch {
		case err != nil:
			return "", err
		case result.State == client.Accepted:
			return number, nil
		case result.Reason != "taken":
			return "", fmt.Errorf("number %s: %s: %s", number, result.Reason, result.Detail)
		}
	}
}
