//go:build ignore

// Command generate writes the tables of this package from Unicode's own files, which lie in the folder given:
// confusables.txt and IdentifierStatus.txt (https://www.unicode.org/Public/security/), Scripts.txt, ScriptExtensions.txt
// and PropertyValueAliases.txt (https://www.unicode.org/Public/). A table that a policy may name is never written again: a
// new version of Unicode is new files, and the old ones stay.
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const license = `# Derived from Unicode Data Files, modified in form only; see LICENSE-UNICODE beside this file.
# Copyright © 1991-2025 Unicode, Inc. Unicode and the Unicode Logo are registered trademarks of Unicode, Inc. in the
# United States and other countries.
`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run generate.go FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder string) error {
	if err := confusables(filepath.Join(folder, "confusables.txt")); err != nil {
		return err
	}
	if err := recommended(filepath.Join(folder, "IdentifierStatus.txt")); err != nil {
		return err
	}
	return scripts(folder)
}

// recommended writes the runs of characters that are Allowed in identifiers.
func recommended(path string) error {
	var in [0x110000]bool
	version, err := rows(path, func(f []string) {
		first, last := span(f[0])
		for c := first; c <= last && f[1] == "Allowed"; c++ {
			in[c] = true
		}
	})
	if err != nil {
		return err
	}
	out := new(strings.Builder)
	fmt.Fprintf(out, "# Characters that UTS 39 recommends for identifiers, from IdentifierStatus.txt %s: code points in runs.\n%s", version, license)
	for c := 0; c < len(in); c++ {
		if !in[c] {
			continue
		}
		first := c
		for c+1 < len(in) && in[c+1] {
			c++
		}
		fmt.Fprintf(out, "%04X..%04X\n", first, c)
	}
	return os.WriteFile("recommended-"+version+".txt", []byte(out.String()), 0o644)
}

// span reads "0041" or "0041..005A".
func span(points string) (first, last int) {
	from, to, more := strings.Cut(points, "..")
	if !more {
		to = from
	}
	return code(from), code(to)
}

// rows calls f with the fields of every line of a Unicode data file, and returns the version its head names.
func rows(path string, f func(fields []string)) (version string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	named := regexp.MustCompile(`^# (?:Version: |[A-Za-z]+-)(\d+\.\d+\.\d+)(?:\.txt)?$`)
	s := bufio.NewScanner(file)
	for s.Scan() {
		line := strings.TrimPrefix(s.Text(), "\ufeff")
		if m := named.FindStringSubmatch(line); m != nil && version == "" {
			version = m[1]
		}
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		fields := strings.Split(line, ";")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		f(fields)
	}
	if version == "" {
		return "", fmt.Errorf("%s names no version", path)
	}
	return version, s.Err()
}

// confusables writes one line for each prototype: its characters, and after a colon all that look like it.
func confusables(path string) error {
	alike := make(map[string][]string)
	version, err := rows(path, func(f []string) { alike[f[1]] = append(alike[f[1]], f[0]) })
	if err != nil {
		return err
	}
	out := new(strings.Builder)
	fmt.Fprintf(out, "# Look-alike characters of UTS 39, from confusables.txt %s: what they look like, a colon, and they.\n%s", version, license)
	for _, prototype := range slices.SortedFunc(maps.Keys(alike), byCode) {
		sources := alike[prototype]
		slices.SortFunc(sources, byCode)
		fmt.Fprintf(out, "%s:%s\n", prototype, strings.Join(sources, " "))
	}
	return os.WriteFile("confusables-"+version+".txt", []byte(out.String()), 0o644)
}

// byCode orders sequences of code points in hexadecimal.
func byCode(a, b string) int {
	return slices.CompareFunc(strings.Fields(a), strings.Fields(b), func(a, b string) int {
		return cmp.Compare(code(a), code(b))
	})
}

func code(hex string) int {
	n, err := strconv.ParseInt(hex, 16, 32)
	if err != nil {
		panic(err)
	}
	return int(n)
}

// scripts writes one line for each run of characters with the same scripts: Script_Extensions where there are any,
// else Script.
func scripts(folder string) error {
	short := make(map[string]string)
	aliases := func(f []string) {
		if f[0] == "sc" {
			short[f[2]] = f[1]
		}
	}
	if _, err := rows(filepath.Join(folder, "PropertyValueAliases.txt"), aliases); err != nil {
		return err
	}
	of := make([]string, 0x110000)
	set := func(points, value string) {
		first, last := span(points)
		for c := first; c <= last; c++ {
			of[c] = value
		}
	}
	version, err := rows(filepath.Join(folder, "Scripts.txt"), func(f []string) { set(f[0], short[f[1]]) })
	if err != nil {
		return err
	}
	extended, err := rows(filepath.Join(folder, "ScriptExtensions.txt"), func(f []string) {
		codes := strings.Fields(f[1])
		slices.Sort(codes)
		set(f[0], strings.Join(codes, " "))
	})
	if err != nil {
		return err
	}
	if extended != version {
		return fmt.Errorf("Scripts.txt is of Unicode %s, ScriptExtensions.txt of %s", version, extended)
	}
	out := new(strings.Builder)
	fmt.Fprintf(out, "# Scripts of characters, from Scripts.txt and ScriptExtensions.txt %s: code points in runs, then ISO 15924 codes.\n%s", version, license)
	for c := 0; c < len(of); {
		end := c + 1
		for end < len(of) && of[end] == of[c] {
			end++
		}
		if of[c] != "" {
			fmt.Fprintf(out, "%04X..%04X %s\n", c, end-1, of[c])
		}
		c = end
	}
	return os.WriteFile("scripts-"+version+".txt", []byte(out.String()), 0o644)
}
