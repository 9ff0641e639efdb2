package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
)

const producers = "../../docs/producers/"

// TestVectorsFile: the file that other languages' tests read is what go generate makes of it.
func TestVectorsFile(t *testing.T) {
	want, err := os.ReadFile(producers + "vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(producers + "doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(doc), "../../cmd/dibs ")
	line, _, ok := strings.Cut(line, " >vectors.jsonl")
	if !ok {
		t.Fatalf("the go:generate line reads\n%s", doc)
	}
	code, got, said := dibs(t, strings.Fields(strings.Replace(line, "spaces.yaml", producers+"spaces.yaml", 1))...)
	if code != exitOK || said != "" {
		t.Fatalf("exit %d: %s", code, said)
	}
	if got != string(want) {
		t.Errorf("docs/producers/vectors.jsonl is not what go generate ./docs/producers makes; it has %d bytes, now there are %d", len(want), len(got))
	}
	// It has what producers get wrong: each length of record keys modulo 4, bytes beyond ASCII, and two units of UTF-16.
	lengths, spaces, wide, astral := make(map[int]bool), make(map[string]bool), 0, 0
	for text := range bytes.Lines(want) {
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		lengths[len(v.RecordKey)%4], spaces[string(v.Space)] = true, true
		if len(v.RecordKey) > len([]rune(v.RecordKey)) {
			wide++
		}
		for _, c := range v.RecordKey {
			if c > 0xffff {
				astral++
			}
		}
		if v.RecordKey != string(v.Space)+"/"+string(v.Key) || v.Partition != claims.Partition(v.RecordKey, v.Partitions) {
			t.Errorf("%s does not agree with itself", text)
		}
	}
	if len(lengths) != 4 || len(spaces) < 4 || wide < 100 || astral == 0 {
		t.Errorf("lengths %v, spaces %v, %d keys beyond ASCII, %d characters beyond the first plane", lengths, spaces, wide, astral)
	}
}

// Those of claims/testdata were computed by Java.
func TestVectorsAreThoseOfJava(t *testing.T) {
	text, err := os.ReadFile("../../claims/testdata/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range bytes.Lines(text) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		if v.Partitions == 1 {
			names = append(names, v.Name)
		}
	}
	list := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(list, []byte(strings.Join(names, "\r\n\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	code, got, said := dibs(t, "vectors", "--file", list, "--partitions", "1,12", "--partitions=48,64")
	if code != exitOK || said != "" || got != string(text) || len(names) < 100 {
		t.Errorf("exit %d: %s; %d names, %d bytes, want %d", code, said, len(names), len(got), len(text))
	}
}

func TestVectors(t *testing.T) {
	const alice = `{"space":"username","name":"Alice","key":"alice","record_key":"username/alice","partitions":12,"partition":0}` + "\n"
	broken := filepath.Join(t.TempDir(), "spaces.yaml")
	if err := os.WriteFile(broken, []byte("spaces: {handle: {version: 1, unicode: precise}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const noASCII = " in the space username: may have the letters a to z, digits and . _ - only; character 1 is something else\n"
	for _, c := range []struct {
		args      []string
		code      int
		out, said string
	}{
		{[]string{"Alice"}, exitOK, alice, ""},
		{[]string{"--space=username", "Alice"}, exitOK, alice, ""},
		{[]string{"-o", "text", "--partitions=12,7", "Alice"}, exitOK,
			"SPACE     NAME   RECORD KEY      PARTITION  OF\nusername  Alice  username/alice  0          12\nusername  Alice  username/alice  3          7\n", ""},
		{[]string{"é", "Alice"}, exitFailure, alice, `"é"` + noASCII + "dibs: names without a key in any space: 1 of 2\n"},
		{[]string{"\xff", "Alice"}, exitFailure, alice, `"\xff"` + noASCII + "dibs: names without a key in any space: 1 of 2\n"},
		{[]string{"--spaces=" + producers + "spaces.yaml", "--space=username,handle", "éé"}, exitOK,
			`{"space":"handle","name":"éé","key":"éé","record_key":"handle/éé","partitions":12,"partition":8}` + "\n", `"éé"` + noASCII},
		{[]string{"--space=email", "Alice"}, exitUsage, "", "dibs: --space is \"email\", of which no policy is known: there is username; others come from --spaces FILE\n"},
		{[]string{"--spaces=" + broken}, exitUsage, "", "precise"},
		{[]string{"--partitions=0"}, exitUsage, "", "dibs: --partitions is 0: at least 1\n"},
		{[]string{"--partitions=some"}, exitUsage, "", "invalid argument"},
		{[]string{"--partitions="}, exitUsage, "", "--partitions"},
		{[]string{"--file=" + os.DevNull}, exitUsage, "", "dibs: --file " + os.DevNull + " has no names\n"},
		{[]string{"--file=" + broken, "Alice"}, exitUsage, "", "dibs: --file goes without names\n"},
		{[]string{"--file=" + broken + ".no"}, exitUsage, "", "no such file"},
		{[]string{"-o", "xml"}, exitUsage, "", "use text or json"},
	} {
		code, out, said := dibs(t, append([]string{"vectors"}, c.args...)...)
		if code != c.code || out != c.out || said != c.said && (c.code != exitUsage || !strings.Contains(said, c.said)) {
			t.Errorf("dibs vectors %q: exit %d\n%s%s\nwant %d\n%s%s", c.args, code, out, said, c.code, c.out, c.said)
		}
	}
}
