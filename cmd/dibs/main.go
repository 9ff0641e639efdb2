// Command dibs settles who gets a unique name, on the Kafka and Postgres that a team already runs.
//
//	dibs dev                     everything embedded, to try it: no settings, no servers
//	dibs migrate up              make or bring up to date the tables
//	dibs topics create           make the topics with the settings that dibs relies on
//	dibs topics check            compare the live settings with those
//	dibs serve                   HTTP API and processor in one process
//	dibs api | dibs processor    one of the two
//	dibs claim NAME --owner ID   claim a name over HTTP, or reserve it
//	dibs signup NAME … --owner ID   take several names at once, or none
//	dibs confirm | extend CLAIM  make a registration of a reservation; let it hold for longer
//	dibs withdraw CLAIM          undo a claim
//	dibs release | rename | transfer NAME …   give a name up, for another one, to another owner
//	dibs deactivate | reactivate NAME         say that its owner is not active, or is again
//	dibs names NAME | --owner ID              who holds a name, or what an owner holds
//	dibs history NAME                         what happened to a name
//	dibs admin release | transfer | block | unblock NAME …   on anybody's names
//	dibs watch                   print what is decided, as it happens
//	dibs import FILE             claim the names of a file through Kafka
//	dibs partitions              how far each partition is; resume one that is halted
//	dibs verify                  replay the log, and compare what is stored and published with it
//	dibs vectors                 names with their keys and partitions, for producers in other languages
//	dibs keys new                make an API key
//	dibs bench                   claims per second, against a direct INSERT and other ways
//	dibs config print | check    what the settings are, and where they come from
//
// Settings come from flags, the environment (DIBS_…), a YAML file (--config) and defaults, in this order.
//
// Exit codes: 0 ok or accepted, 1 failure, 2 usage, 3 rejected, 4 undecided, 5 Kafka or Postgres out of reach,
// 6 dibs verify found a difference.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	// A sample of what is allocated walks the stack; at every 512 KiB, as is the default, that is 1 % of a claim's time.
	runtime.MemProfileRate = 8 << 20
	collect := leaveGarbage()
	childMain() // does not return in a child, such as that which runs the embedded Postgres
	code := run(os.Args[1:], os.Stdout, os.Stderr)
	collect()
	os.Exit(code)
}

// run is the program. A first signal stops it cleanly; a second one kills it, as signals do.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "dibs: %s\n", text)
	}
	return exitCode(err)
}
