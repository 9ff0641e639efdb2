package app

import (
	"runtime"
	"testing"
)

// TestTransactionsOf: a processor has as many transactions at once as it was told, or as there are cores, and leaves one of the
// connections for deciding; it has one at least.
func TestTransactionsOf(t *testing.T) {
	for _, c := range []struct{ lanes, maxConns, want int }{
		{2, 16, 2}, {7, 16, 7}, {8, 16, 7}, {3, 8, 3}, {4, 8, 3}, {4, 9, 4}, {2, 4, 1}, {1, 2, 1}, {3, 1, 1},
		{0, 4 * runtime.GOMAXPROCS(0), runtime.GOMAXPROCS(0)}, {0, 1, 1},
	} {
		if got := transactionsOf(c.lanes, c.maxConns); got != c.want {
			t.Errorf("%d lanes and %d connections: %d transactions, want %d", c.lanes, c.maxConns, got, c.want)
		}
	}
}
