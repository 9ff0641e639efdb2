// Command with-servers runs a command, most of all `go test ./...`, with one Kafka and one Postgres for all of it.
//
//	go run ./dibstest/cmd/with-servers -- go test ./...
//
// It chooses the servers as package dibstest does, says on standard error which they are, and hands them to the
// command in DIBS_TEST_KAFKA and DIBS_TEST_POSTGRES; where these are set already, it starts nothing. At the end it
// looks for private values of tests in what the command has left on servers that it has started, stops these, and says how
// many tests were skipped for want of a server. Its exit status is the command's; 2 for wrong usage, 1 when there are no
// servers, or not those that DIBS_TEST_REQUIRE asks for, or when a private value was written down.
//
// Ctrl-C reaches the command too; with-servers waits for it to end and then stops the servers. They also stop when
// with-servers is killed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dibstest"
)

func main() {
	dev.ChildMain()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: with-servers -- command [argument ...]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	servers, err := dibstest.StartServers(ctx)
	if err != nil {
		say(err.Error())
		return 1
	}
	for _, line := range servers.About() {
		say(line)
	}
	code := runCommand(ctx, args, servers.Environ())
	skipped, err := servers.Skipped()
	for _, line := range skipped {
		say(line)
	}
	for _, line := range servers.About() { // again, where it can be seen after pages of tests
		say("ran on " + line)
	}
	if ctx.Err() == nil {
		err = errors.Join(err, servers.Sweep())
	}
	if err := errors.Join(err, servers.Close()); err != nil {
		say(err.Error())
		code = max(code, 1)
	}
	return code
}

// runCommand runs the command to its end. When ctx ends, the command is asked to end as well.
func runCommand(ctx context.Context, args, environ []string) int {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), environ...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	say(err.Error())
	return 1
}

func say(line string) {
	fmt.Fprintln(os.Stderr, "with-servers:", line)
}
