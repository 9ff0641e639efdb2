package names

// Digest says what this build makes of a set of tables now.
func Digest(name Tables) string {
	t := known[name]
	t.prepare()
	return t.digest()
}

// AddTables adds tables in which c looks like something else than in TablesLatest, as another version of UTS 39 would
// have it. They were named with the given digest; "" stands for the right one.
func AddTables(name Tables, c rune, like, want string) (remove func()) {
	base := known[TablesLatest]
	t := &tables{name: name, unicode: base.unicode, uts39: base.uts39, extra: map[rune]string{c: like}, want: want}
	if t.prepare(); want == "" {
		t.want = t.digest()
	}
	known[name] = t
	return func() { delete(known, name) }
}
