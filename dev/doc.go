// Package dev is the Kafka and the Postgres behind `dibs dev`: a whole system with nothing installed but dibs.
//
// [StartKafka] runs an in-process fake of a Kafka broker (franz-go's kfake) that keeps acknowledged records on disk.
// It speaks the real protocol, but it is a fake: it has one broker, no replication, and does not enforce every topic
// setting it stores. [StartPostgres] runs a real Postgres, unpacked into the data folder at the first start, in a
// child process that stops it when we end, also by kill -9; as root, that child gives up root first, since Postgres
// refuses it. Both listen on loopback only and keep their data over restarts.
//
// Neither is for production, and nothing outside `dibs dev` and the tests may start them. A program that calls
// StartPostgres must call [ChildMain] first thing in main.
package dev

import (
	"maps"

	"github.com/dibs-hq/dibs/dev/child"
)

// The roles of our child processes.
const (
	rolePostgres = "postgres"
	// RoleKafka runs StartKafka in a child, for tests that kill or stop a broker. Its task is a [KafkaConfig], its
	// answer a [KafkaStarted].
	RoleKafka = "kafka"
	// RoleCommand is child.RunCommand.
	RoleCommand = "command"
)

// ChildMain runs one of this package's child processes and exits, where this process was started as one; otherwise it
// returns at once. It must be called before anything else in main, and in TestMain of a test binary (dibstest.Main
// does). A program may have roles of its own.
func ChildMain(own ...map[string]child.Role) {
	roles := map[string]child.Role{
		rolePostgres: servePostgres,
		RoleKafka:    serveKafka,
		RoleCommand:  child.RunCommand,
	}
	for _, more := range own {
		maps.Copy(roles, more)
	}
	child.Main(roles)
}
