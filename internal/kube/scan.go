package kube

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// A JSON scanner that finds where values begin and end and copies nothing. It
// accepts exactly what encoding/json accepts (fuzzed against it), at several
// times the speed, because most of an object is never decoded here.

// errTruncated: the input ended inside a value.
var errTruncated = errors.New("truncated JSON")

// maxDepth is encoding/json's.
const maxDepth = 10000

func badJSON(b []byte, i int, want string) error {
	if i >= len(b) {
		return errTruncated
	}
	return fmt.Errorf("invalid JSON at byte %d: want %s", i, want)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// plain tells the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

// allPlain is plain for eight bytes at once: the high bits of a term are all clear
// if and only if no byte is below 0x20, a quote, a backslash.
func allPlain(x uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := x^ones*'"', x^ones*'\\'
	return ((x-ones*0x20)&^x|(quote-ones)&^quote|(backslash-ones)&^backslash)&high == 0
}

// skipString returns the index behind the string that begins at i.
func skipString(b []byte, i int) (int, error) {
	if i >= len(b) || b[i] != '"' {
		return i, badJSON(b, i, "a string")
	}
	for i++; i < len(b); i++ {
		for i+8 <= len(b) && allPlain(binary.LittleEndian.Uint64(b[i:])) {
			i += 8
		}
		for i < len(b) && plain[b[i]] {
			i++
		}
		if i == len(b) {
			break
		}
		switch b[i] {
		case '"':
			return i + 1, nil
		case '\\':
			i++
			if i >= len(b) {
				return i, errTruncated
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(b) || !isHex(b[i]) {
						return i, badJSON(b, i, "a hexadecimal digit")
					}
				}
			default:
				return i, badJSON(b, i, "an escape")
			}
		default:
			return i, badJSON(b, i, "an escaped control character")
		}
	}
	return i, errTruncated
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// skipDigits passes over one digit or more.
func skipDigits(b []byte, i int) (int, error) {
	if i >= len(b) || !isDigit(b[i]) {
		return i, badJSON(b, i, "a digit")
	}
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i, nil
}

func skipNumber(b []byte, i int) (_ int, err error) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, err = skipDigits(b, i); err != nil {
		return i, err
	}
	if i < len(b) && b[i] == '.' {
		if i, err = skipDigits(b, i+1); err != nil {
			return i, err
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i)
	}
	return i, nil
}

func skipWord(b []byte, i int, word string) (int, error) {
	for j := range len(word) {
		if i+j >= len(b) || b[i+j] != word[j] {
			return i, badJSON(b, i+j, word)
		}
	}
	return i + len(word), nil
}

// skipValue returns the index behind the value that begins at i.
func skipValue(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return i, errTruncated
	}
	switch b[i] {
	case '{':
		return walkObject(b, i, depth, nil)
	case '[':
		return walkArray(b, i, depth, nil)
	case '"':
		return skipString(b, i)
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	default:
		if b[i] != '-' && !isDigit(b[i]) {
			return i, badJSON(b, i, "a value")
		}
		return skipNumber(b, i)
	}
}

// walkObject calls visit, if not nil, with each key (quoted) and value of the
// object that begins at i, and returns the index behind the object.
func walkObject(b []byte, i, depth int, visit func(key, value []byte) error) (int, error) {
	if i >= len(b) || b[i] != '{' {
		return i, badJSON(b, i, "an object")
	}
	if depth >= maxDepth {
		return i, badJSON(b, i, "less depth")
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		keyEnd, err := skipString(b, i)
		if err != nil {
			return i, err
		}
		key := b[i:keyEnd]
		if i = skipSpace(b, keyEnd); i >= len(b) || b[i] != ':' {
			return i, badJSON(b, i, "a colon")
		}
		i = skipSpace(b, i+1)
		end, err := skipValue(b, i, depth+1)
		if err != nil {
			return i, err
		}
		if visit != nil {
			if err := visit(key, b[i:end:end]); err != nil {
				return i, err
			}
		}
		switch i = skipSpace(b, end); {
		case i >= len(b):
			return i, errTruncated
		case b[i] == '}':
			return i + 1, nil
		case b[i] != ',':
			return i, badJSON(b, i, "a comma or a closing brace")
		}
		i = skipSpace(b, i+1)
	}
}

// walkArray is walkObject for the elements of an array.
func walkArray(b []byte, i, depth int, visit func(value []byte) error) (int, error) {
	if i >= len(b) || b[i] != '[' {
		return i, badJSON(b, i, "an array")
	}
	if depth >= maxDepth {
		return i, badJSON(b, i, "less depth")
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		end, err := skipValue(b, i, depth+1)
		if err != nil {
			return i, err
		}
		if visit != nil {
			if err := visit(b[i:end:end]); err != nil {
				return i, err
			}
		}
		switch i = skipSpace(b, end); {
		case i >= len(b):
			return i, errTruncated
		case b[i] == ']':
			return i + 1, nil
		case b[i] != ',':
			return i, badJSON(b, i, "a comma or a closing bracket")
		}
		i = skipSpace(b, i+1)
	}
}

// Walk calls visit with every key and value of the JSON object, in its order,
// and stops at an error. Values alias object. What is visited before an error is
// well-formed; a whole object was well-formed only if Walk returns nil.
func Walk(object []byte, visit func(key string, value json.RawMessage) error) error {
	end, err := walkObject(object, skipSpace(object, 0), 0, func(key, value []byte) error {
		k, err := unquote(key)
		if err != nil {
			return err
		}
		return visit(k, value)
	})
	if err != nil {
		return err
	}
	if end = skipSpace(object, end); end != len(object) {
		return badJSON(object, end, "nothing more")
	}
	return nil
}

// Split returns the values of the JSON object by key; of a key that is there
// twice, the last. Values alias object.
func Split(object []byte) (map[string]json.RawMessage, error) {
	m := make(map[string]json.RawMessage, 8)
	err := Walk(object, func(k string, v json.RawMessage) error {
		m[k] = v
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// unquote decodes a string value.
func unquote(q []byte) (string, error) {
	if len(q) < 2 || q[0] != '"' {
		return "", fmt.Errorf("want a string")
	}
	inner := q[1 : len(q)-1]
	plain := true
	ascii := true
	for _, c := range inner {
		if c == '\\' {
			plain = false
			break
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if plain && (ascii || utf8.Valid(inner)) {
		return string(inner), nil
	}
	var s string
	if err := json.Unmarshal(q, &s); err != nil {
		return "", err
	}
	return s, nil
}

// keyIs compares a quoted key with a plain name without decoding it; no key of
// the Kubernetes API needs an escape.
func keyIs(q []byte, name string) bool { return string(q[1:len(q)-1]) == name }

func isNull(v []byte) bool { return len(v) == 4 && v[0] == 'n' }
