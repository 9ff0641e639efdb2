package dev_test

import (
	"os"
	"testing"

	"github.com/dibs-hq/dibs/dev"
)

func TestMain(m *testing.M) {
	dev.ChildMain()
	os.Exit(m.Run())
}
