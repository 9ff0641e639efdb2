//go:build !race

package app_test

const raceFlag = ""
