package processor

import (
	"slices"
	"testing"
)

// TestDivide: every run is in one part, in order; there are no more parts than may be, none is empty, and there are several
// only where each has about as many records as are worth it.
func TestDivide(t *testing.T) {
	for _, c := range []struct {
		sizes       []int
		most, least int
		want        [][]int
	}{
		{nil, 2, 256, nil},
		{[]int{8000}, 3, 256, [][]int{{8000}}},
		{[]int{8000, 1}, 3, 1024, [][]int{{8000, 1}}},
		{[]int{2000, 100, 2000}, 3, 1024, [][]int{{2000}, {100, 2000}}},
		{[]int{1, 8000}, 3, 1024, [][]int{{1, 8000}}},
		{[]int{255, 256}, 2, 256, [][]int{{255, 256}}},
		{[]int{256, 256}, 2, 256, [][]int{{256}, {256}}},
		{[]int{300, 300, 300, 300}, 2, 256, [][]int{{300, 300}, {300, 300}}},
		{[]int{300, 300, 300, 300}, 8, 256, [][]int{{300}, {300}, {300}, {300}}},
		{[]int{300, 300, 300, 300}, 1, 256, [][]int{{300, 300, 300, 300}}},
		{[]int{100, 100, 100, 100, 100, 100}, 3, 200, [][]int{{100, 100}, {100, 100}, {100, 100}}},
		{[]int{0, 0}, 2, 1, [][]int{{0, 0}}}, // gaps alone
	} {
		var runs []run
		for p, n := range c.sizes {
			runs = append(runs, run{tenure: &tenure{Standing: Standing{Fence: Fence{Partition: int32(p)}}}, records: make([]Received, n)})
		}
		var got [][]int
		next := int32(0)
		for _, part := range divide(runs, c.most, c.least) {
			var sizes []int
			for _, r := range part {
				if r.tenure.Partition != next {
					t.Errorf("%v: partition %d where %d is next", c.sizes, r.tenure.Partition, next)
				}
				next++
				sizes = append(sizes, len(r.records))
			}
			got = append(got, sizes)
		}
		if !slices.EqualFunc(got, c.want, slices.Equal[[]int]) {
			t.Errorf("%v in %d parts of %d at least: %v, want %v", c.sizes, c.most, c.least, got, c.want)
		}
	}
}
