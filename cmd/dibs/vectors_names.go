package main

// tryingNames are spellings that producers in other languages get wrong, for every kind of space: capitals and what
// lower-cases differently elsewhere (İ, ẞ, Σ, final ς), what is typed in several ways (full and half width, composed or
// not), bytes above 127 (murmur2 over signed bytes), characters beyond the first plane, and record keys of all lengths
// modulo 4. In a space that does not take one of them it is left out.
var tryingNames = []string{
	// ASCII.
	"Alice", "alice", "ALICE", "aLiCe", "bob", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh",
	"a.b", "a-b", "a_b", "a.b_c-d", "x1y2z3", "007", "a1234567890", "Z.z", "I.am-Iron_Man", "MiXeD.CaSe_Name-42",
	"INFO", "root", "null", "undefined", "TITLE", "iii", "III",
	"abcdefghijklmnopqrstuvwxyz012345", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_789",
	// Punctuation that only a space beyond ASCII has.
	"O'Neil+1", "juliet@example.com", "a<b&c>d", `quote"back\slash`,
	// The same in other letters.
	"Ａｌｉｃｅ", "ａｌｉｃｅ", "ｱﾘｽ", "アリス", "ｶﾞｷﾞ", "ガギ",
	"Élodie", "E\u0301lodie", "élodie", "Nguyễn", "Nguye\u0302\u0303n", "Ångström", "A\u030angstro\u0308m", "\u212bngström", "\u212aelvin",
	"Straße", "STRASSE", "STRA\u1e9eE", "İstanbul", "istanbul", "Isparta", "ısparta", "Čeština", "Łódź", "l·l",
	// Other scripts.
	"Виктор", "ВИКТОР", "Ёлка", "Е\u0308лка", "Ђорђе", "Νίκος", "ΝΊΚΟΣ", "ΣΊΣΥΦΟΣ", "σίσυφος", "Գոհար", "ნინო",
	"דוד", "דוד1", "محمد", "मीरा", "สมชาย", "அருண்", "김철수", "\u1100\u1161\u1102\u1161", "가나", "张伟", "やまだ太郎", "taro太郎", "café한국",
	// Beyond the first plane: two units of UTF-16, four bytes of UTF-8.
	"\U00020000\U00020001\U0002a6d6", "\U00010400\U00010401\U00010402", "\U00010428\U00010429\U0001042a", "𠮷野家",
	// Look-alikes, where they are kept apart one name.
	"paypal", "paypa1", "PayPaI", "modern", "rnodern", "some0ne", "SomeOne", "scope", "ѕсоре", "l1I",
	// E-mail addresses: the domain is the same in capitals, nothing else is.
	"ada@example.com", "Ada@Example.COM", "ada@EXAMPLE.com", "a.d.a+news@example.com", "Jürgen@example.org", "ju\u0308rgen@example.org",
	"o'neil@mail.example.co.uk", "x@xn--bcher-kva.example", "用户@example.cn",
	// Several fields together, that are not the same when they are joined otherwise.
	`{"tenant":"acme","email":"ada@example.com"}`, `{"email":"ada@Example.com","tenant":"ACME"}`, `{"tenant":"acmea","email":"da@example.com"}`,
	`{"tenant":"north.wind","email":"Jürgen@example.org"}`,
}
