package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
)

// laterTables are those of a dibs to come, in which ж looks like х.
const laterTables = "unicode-15.0.0/confusables-later/1"

// laterBuild builds a dibs that has later tables as well, and begins new policies with them.
func laterBuild(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("../names/tables.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for _, edit := range [][2]string{
		{"const TablesLatest = TablesUnicode15", "const TablesLatest Tables = \"" + laterTables + "\""},
		{"var known = map[Tables]*tables{", "var known = map[Tables]*tables{\n\tTablesLatest: {name: TablesLatest, unicode: \"15.0.0\", uts39: uts39.Unicode15, extra: map[rune]string{'ж': \"х\"}},"},
		{"got != t.want {", "got != t.want && t.want != \"\" {"},
	} {
		if strings.Count(changed, edit[0]) != 1 {
			t.Fatalf("names/tables.go has not got %q once", edit[0])
		}
		changed = strings.Replace(changed, edit[0], edit[1], 1)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: write("tables.go", []byte(changed))}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dibs")
	if err := build(path, "-overlay="+write("overlay.json", list)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTablesOfTwoBuilds: a dibs with later tables keeps the keys of a policy that was made with earlier ones, and gives
// none of them another without being told; a dibs without the tables of a policy stops, and decides nothing by others.
func TestTablesOfTwoBuilds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds dibs once more")
	}
	later := laterBuild(t)
	d := deploy(t, 2)
	claim := func(space, name, owner string) string {
		return fmt.Sprintf(`{"space":%q,"name":%q,"owner":%q}`, space, name, owner)
	}
	const handle = `{spaces: {handle: {version: %d, unicode: precis, confusables: as_typed, scripts: [Latn, Cyrl]%s}}}`
	const nick = `{spaces: {nick: {version: 1, unicode: precis, confusables: as_typed, scripts: [Latn, Cyrl]}}}`
	p, api := d.start("processor").ready(), d.start("api").ready()
	d.assigned(time.Minute, p)
	d.apply(0, fmt.Sprintf(handle, 1, ""))
	d.soon(api, 201, "", "/v1/claims", claim("handle", "хорошо", "u-1"))
	before := d.must(api, 201, "", "/v1/claims", claim("handle", "Жук", "u-1"))["key"]

	// A policy with later tables comes to a processor that lacks them: it halts, and says what to do.
	d.program = later
	const lacks = "lacks the Unicode tables"
	if said := d.apply(1, nick, "--wait", "20s"); !strings.Contains(said, lacks) || !strings.Contains(said, laterTables) {
		t.Errorf("apply says\n%s", said)
	}
	halted := func() (n []int32) {
		for _, s := range d.standings() {
			if s.Halted != "" {
				if n = append(n, s.Partition); !strings.Contains(s.Halted, lacks) {
					t.Errorf("partition %d is halted: %s", s.Partition, s.Halted)
				}
			}
		}
		return n
	}
	stopped := halted()
	if len(stopped) == 0 {
		t.Error("no partition is halted")
	}
	p.stop()
	api.stop()

	// The later build has both, and goes on where the other stopped.
	p, api = d.start("processor").ready(), d.start("api").ready()
	for _, n := range stopped {
		d.mustRun("partitions", "resume", strconv.Itoa(int(n)), "--actor", "ada", "--reason", "there is a dibs with the tables")
	}
	d.apply(0, nick)
	d.assigned(time.Minute, p)
	d.soon(api, 201, "", "/v1/claims", claim("nick", "жук", "u-1"))
	d.must(api, 409, "confusable", "/v1/claims", claim("nick", "хук", "u-2"))
	// What was made with the earlier tables has the keys it had.
	d.must(api, 409, "taken", "/v1/claims", claim("handle", "жук", "u-2"))
	if now := d.must(api, 201, "", "/v1/claims", claim("handle", "хук", "u-2"))["key"]; now == before {
		t.Errorf("жук and хук have the key %v", now)
	}
	if a := d.look(api, "/v1/names/handle/%D0%B6%D1%83%D0%BA", ""); !strings.Contains(string(a.body), fmt.Sprintf(`"key":%q`, before)) {
		t.Errorf("жук had the key %v, and reads %s", before, a.body)
	}
	// A file that does not name its tables means the latest ones. That is refused while names would move.
	if said := d.apply(1, fmt.Sprintf(handle, 2, "")); !strings.Contains(said, "names would get another key: in space handle ") {
		t.Errorf("apply says\n%s", said)
	}
	d.apply(0, fmt.Sprintf(handle, 2, ", min_length: 2, tables: "+string(names.TablesUnicode15)))
	d.soon(api, 201, "", "/v1/claims", claim("handle", "жу", "u-3"))
	d.must(api, 201, "", "/v1/claims", claim("handle", "ху", "u-3"))
	d.verified()
	p.stop()
	api.stop()

	// Back to the build without them: it says so, and decides nothing.
	d.program = ""
	n := d.decided()
	if lacking, code := d.run("processor"); code == 0 || !strings.Contains(lacking.errors(), lacks) || !strings.Contains(lacking.errors(), laterTables) {
		t.Errorf("a processor without the tables: exit code %d\n%s", code, lacking.errors())
	}
	if now := d.decided(); now != n {
		t.Errorf("%d decisions became %d", n, now)
	}
}
