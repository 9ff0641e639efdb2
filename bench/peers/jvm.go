package peers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/dibs-hq/dibs/dev/filelock"
)

//go:embed streams/pom.xml streams/Names.java
var streamsFiles embed.FS

var javaBase = regexp.MustCompile(`(?m)^java\.base@(\d+)`)

// findJava finds a Java that can compile and run the program.
func (o *opening) findJava(ctx context.Context) (string, error) {
	if o.set.java != "" {
		return o.set.java, nil
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", errLeft("no java in PATH")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, java, "--list-modules").Output()
	if err != nil {
		return "", errLeft("java cannot list its modules: " + err.Error())
	}
	if match := javaBase.FindSubmatch(out); match == nil || len(match[1]) < 2 || string(match[1]) < "17" {
		return "", errLeft("java 17 or newer is needed")
	}
	if !bytes.Contains(out, []byte("jdk.compiler@")) {
		return "", errLeft("this java has no compiler")
	}
	o.set.java = java
	return java, nil
}

// program is a folder with Names.java and the jars that it needs.
type program string

// arguments are those of java, which compiles the one file itself.
func (p program) arguments(own ...string) []string {
	return append([]string{"-Xmx1g", "-cp", filepath.Join(string(p), "*"), filepath.Join(string(p), "Names.java")}, own...)
}

// streamsProgram has Maven copy the jars into the user's cache, once for all processes.
func streamsProgram(ctx context.Context) (program, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", errLeft("no folder to keep the jars of Kafka Streams in: " + err.Error())
	}
	sum := sha256.New()
	contents := make(map[string][]byte)
	for _, name := range []string{"pom.xml", "Names.java"} {
		if contents[name], err = streamsFiles.ReadFile("streams/" + name); err != nil {
			return "", err
		}
		sum.Write(contents[name])
	}
	cache = filepath.Join(cache, "dibs")
	dir := filepath.Join(cache, "peers-streams-"+hex.EncodeToString(sum.Sum(nil)[:6]))
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", errLeft("no folder to keep the jars of Kafka Streams in: " + err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	lock, err := filelock.Wait(ctx, dir+".lock")
	if err != nil {
		return "", fmt.Errorf("jars of Kafka Streams: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if _, err := os.Stat(dir); err == nil {
		return program(dir), nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", errLeft("no mvn in PATH to fetch Kafka Streams with")
	}
	fresh, err := os.MkdirTemp(cache, "fetching-")
	if err != nil {
		return "", fmt.Errorf("jars of Kafka Streams: %w", err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	for name, raw := range contents {
		if err := os.WriteFile(filepath.Join(fresh, name), raw, 0o600); err != nil {
			return "", fmt.Errorf("jars of Kafka Streams: %w", err)
		}
	}
	fetch := exec.CommandContext(ctx, mvn, "--quiet", "--batch-mode", "--no-transfer-progress",
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+fresh)
	fetch.Dir = fresh
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", errLeft(fmt.Sprintf("mvn can't fetch Kafka Streams: %v: %.300s", err, out))
	}
	// Under its name only when it is whole.
	if err := os.Rename(fresh, dir); err != nil {
		return "", fmt.Errorf("jars of Kafka Streams: %w", err)
	}
	return program(dir), nil
}

// jvm is a Java program that obeys its standard input, and ends with it: whatever ends us, it goes too.
type jvm struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	said    chan string
	logFile string
	ended   chan struct{}
	exit    error // once ended is closed
}

// startWithin is how long a JVM may take to start, compile the program, and get its partitions.
const startWithin = 2 * time.Minute

// startJVM returns when the program says that it serves.
func startJVM(ctx context.Context, command []string, logFile string) (*jvm, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("log of java: %w", err)
	}
	defer func() { _ = log.Close() }()
	j := &jvm{cmd: exec.Command(command[0], command[1:]...), said: make(chan string, 8), ended: make(chan struct{}), logFile: logFile}
	j.cmd.Stderr = log
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches us alone
	if j.in, err = j.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start java: %w", err)
	}
	out, err := j.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start java: %w", err)
	}
	if err := j.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start java: %w", err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case j.said <- lines.Text():
			default: // nobody asked
			}
		}
		j.exit = j.cmd.Wait()
		close(j.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := j.answered(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the application: %w", err), j.end())
	}
	return j, nil
}

// tell gives the program a word and waits until it has done as told.
func (j *jvm) tell(ctx context.Context, word string) error {
	if _, err := io.WriteString(j.in, word+"\n"); err != nil {
		return fmt.Errorf("%s the application: %w: %w", word, err, j.failure())
	}
	if err := j.answered(ctx); err != nil {
		return fmt.Errorf("%s the application: %w", word, err)
	}
	return nil
}

func (j *jvm) answered(ctx context.Context) error {
	select {
	case line := <-j.said:
		if line != "ok" {
			return fmt.Errorf("it says %q", line)
		}
		return nil
	case <-j.ended:
		return j.failure()
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
}

// failure is why the program has ended, with the end of what it wrote.
func (j *jvm) failure() error {
	<-j.ended
	raw, _ := os.ReadFile(j.logFile) // what it holds is all there is to say
	if over := len(raw) - 2000; over > 0 {
		raw = raw[over:]
	}
	return fmt.Errorf("java has ended: %w\n%s", j.exit, bytes.TrimSpace(raw))
}

// watch fails when the program ends before ctx does.
func (j *jvm) watch(ctx context.Context) error {
	select {
	case <-j.ended:
		return j.failure()
	case <-ctx.Done():
		return nil
	}
}

// end closes the program's standard input and waits; what does not go is killed.
func (j *jvm) end() error {
	_ = j.in.Close()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-j.ended:
		return nil
	case <-timer.C:
	}
	_ = j.cmd.Process.Kill()
	<-j.ended
	return errors.New("java did not end within 30 s and was killed")
}
