package dibstest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"github.com/dibs-hq/dibs/dibstest"
)

// TestLeak is run by the one below: each of its parts writes a private value down somewhere.
func TestLeak(t *testing.T) {
	if os.Getenv("DIBS_TEST_LEAK") == "" {
		return
	}
	ada := dibstest.Address("ada")
	encoded := []byte(base64.RawURLEncoding.EncodeToString([]byte(`{"name":"` + ada + `"}`)))
	for where, r := range map[string]kafka.Record{
		"key":        {Key: kafka.NewBytes([]byte("email/" + strings.ToUpper(ada)))},
		"value":      {Value: kafka.NewBytes(encoded)},
		"header":     {Headers: []kafka.Header{{Key: "tracestate", Value: []byte(hex.EncodeToString([]byte(ada)))}}},
		"compressed": {Value: kafka.NewBytes(bytes.Repeat([]byte(ada), 100))},
	} {
		t.Run(where, func(t *testing.T) {
			b := dibstest.Kafka(t)
			client := newClient(t, b)
			createTopic(t, client, b.Prefix+"claims")
			if err := produce(t, client, b.Prefix+"claims", time.Now(), "nothing"); err != nil { // now its leader is known
				t.Fatal(err)
			}
			r.Time = time.Now()
			request := &kafka.ProduceRequest{Topic: b.Prefix + "claims", Partition: 1, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(r)}
			if where == "compressed" {
				request.Compression = compress.Gzip
			}
			response, err := client.Produce(t.Context(), request)
			if err == nil {
				err = response.Error
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	for where, value := range map[string]any{
		"text": ada, "bytea": []byte("\x00\xff" + ada), "jsonb": map[string]string{"name": ada}, "deleted": dibstest.Canary + " was here", "left": ada,
	} {
		t.Run(where, func(t *testing.T) {
			d := dibstest.Postgres(t)
			conn, err := pgx.Connect(t.Context(), d.DSN)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			do := func(sql string, args ...any) {
				t.Helper()
				if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
					t.Fatal(err)
				}
			}
			schema, kind := pgx.Identifier{d.Schema}.Sanitize(), "text"
			switch where {
			case "bytea", "jsonb":
				kind = where
			case "left": // in another schema than the test's own
				schema = "public"
			}
			table := schema + ".leak_" + where
			do("CREATE TABLE " + table + " (v " + kind + ") PARTITION BY HASH (v)")
			do("CREATE TABLE " + table + "_1 PARTITION OF " + table + " FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
			do("INSERT INTO "+table+" VALUES ($1)", value)
			if where == "deleted" {
				do("DELETE FROM " + table)
			}
		})
	}
	t.Run("log", func(t *testing.T) { // the server's own
		d := dibstest.Postgres(t)
		conn, err := pgx.Connect(t.Context(), d.DSN)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		if _, err := conn.Exec(t.Context(), "SELECT '"+ada+"' FROM nothing"); err == nil {
			t.Fatal("it is no error")
		}
	})
}

// TestWhatIsWrittenDownIsFound: wherever a test leaves a private value, it fails or its run does, and says where it is.
func TestWhatIsWrittenDownIsFound(t *testing.T) {
	t.Parallel()
	out, err := runSelf(t, "TestLeak", "DIBS_TEST_LEAK=yes", "DIBS_TEST_KAFKA=embedded", "DIBS_TEST_POSTGRES=embedded", "DIBS_TEST_REQUIRE=")
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("it passes: %v\n%s", err, out)
	}
	for _, where := range []string{"key", "value", "header", "compressed", "text", "bytea", "jsonb"} {
		mustContain(t, out, "--- FAIL: TestLeak/"+where)
	}
	for _, where := range []string{"deleted", "left", "log"} { // is found at the end
		mustContain(t, out, "--- PASS: TestLeak/"+where)
	}
	mustContain(t, out, "claims, partition 1, offset 1: ", `_s"."leak_text_1": `, `_s"."leak_bytea_1": `, `_s"."leak_jsonb_1": `,
		`table "public"."leak_left_1": `, "/pg_wal/", "/postgres/log/")
}

// TestTrace: a value is found however it is spelt, and nothing else is.
func TestTrace(t *testing.T) {
	t.Parallel()
	ada := dibstest.Address("ada")
	sum := sha256.Sum256([]byte(ada))
	for what, text := range map[string][]byte{
		"as it is": []byte(`{"name":"` + ada + `"}`), "upper case": []byte(strings.ToUpper(ada)), "among bytes": append([]byte{0xff, 0, 0xc3}, ada...),
		"hexadecimal": []byte(`\x` + hex.EncodeToString([]byte(ada))), "runes": fmt.Appendf(nil, "%x", []rune(ada)), "base64": []byte(base64.StdEncoding.EncodeToString([]byte("1" + ada))),
		"base64 of a URL": []byte(base64.RawURLEncoding.EncodeToString([]byte("12" + ada))), "a path": []byte("/v1/names/email/" + url.PathEscape(dibstest.CanaryAda)),
		"its hash": sum[:], "its hash in hexadecimal": fmt.Appendf(nil, "%X", sum),
	} {
		if trace := dibstest.Trace(text); trace == "" {
			t.Errorf("%s is not found in %q", what, text)
		}
	}
	if trace := dibstest.Trace([]byte(`{"space":"email","key":"h1:7f3a91c0","owner":"ops@example.org"}`)); trace != "" {
		t.Errorf("found what is no trace: %s", trace)
	}
}

// address is what looks like the e-mail address of a person: those of example.org are no secret.
var address = regexp.MustCompile(`(?i)[a-z0-9]@([a-z0-9-]+\.)+[a-z]+`)

// TestTestsMakeAddressesHere: a test that has servers has no address but those that are looked for.
func TestTestsMakeAddressesHere(t *testing.T) {
	t.Parallel()
	seen := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go") || filepath.Dir(path) == filepath.Join("..", "dibstest"):
			return nil
		}
		others, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*_test.go"))
		if err != nil || !slices.ContainsFunc(others, hasServers) {
			return err
		}
		seen++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				for _, found := range address.FindAllString(literal.Value, -1) {
					if !strings.HasSuffix(strings.ToLower(found), "@example.org") && !strings.Contains(literal.Value, "://") {
						t.Errorf("%s: the address …%s is in no sweep: make it with dibstest.Address, or of example.org if it is no secret", path, found)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil || seen == 0 {
		t.Errorf("%d files are looked at: %v", seen, err)
	}
}

// hasServers says whether a file hands its binary's tests to this package.
func hasServers(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && bytes.Contains(text, []byte("dibstest.Main(m)"))
}
