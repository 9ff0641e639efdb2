//go:build race

package app_test

// raceFlag builds the dibs under test like the test itself: what runs at once, runs there.
const raceFlag = "-race"
