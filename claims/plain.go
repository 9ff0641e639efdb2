package claims

import "github.com/dibs-hq/dibs/names"

// readPlain reads the value of a claim as it is written where nothing but its four fields is said: in their order, nothing
// escaped. That is how nearly all are. It returns nil for any other value, which says nothing about it: decodeBody reads
// those the long way. What it reads the long way reads alike.
func readPlain(value []byte) *UsernameClaimed {
	space, rest := plainText(value, `{"space":"`)
	name, rest := plainText(rest, `,"name":"`)
	owner, rest := plainText(rest, `,"owner":"`)
	mode, rest := plainText(rest, `,"mode":"`)
	if string(rest) != "}" {
		return nil
	}
	return &UsernameClaimed{Space: names.Space(word(space)), Spelling: string(name), Owner: string(owner), Mode: Mode(word(mode))}
}

// plainText reads a label and the text behind it up to its quote. Where there is another one, or one that is escaped or not
// ASCII, there is no rest.
func plainText(b []byte, label string) (text, rest []byte) {
	if len(b) < len(label) || string(b[:len(label)]) != label {
		return nil, nil
	}
	b = b[len(label):]
	for i, c := range b {
		switch {
		case c == '"':
			return b[:i], b[i+1:]
		case c < ' ' || c == '\\' || c > '~':
			return nil, nil
		}
	}
	return nil, nil
}
