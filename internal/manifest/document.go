package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// document is one YAML or JSON document of a file.
type document struct {
	file  string
	index int // from 1
	line  int // where it begins, from 1

	object map[string]any
	// root is the syntax tree, for line numbers; nil when there is none.
	root *yamlv3.Node
	// under is put before a field path when lines are looked up (items of a List).
	under string

	kind, apiVersion, namespace, name string
}

// errorAt makes an error about a field of the document.
func (d *document) errorAt(field, detail string) *Error {
	e := &Error{File: d.file, Document: d.index, Line: d.lineOf(field), Field: field, Detail: detail}
	switch {
	case d.kind == "":
	case d.name == "":
		e.Object = d.kind
	default:
		e.Object = d.kind + " " + d.namespace + "/" + d.name
	}
	return e
}

// yamlLine finds the line number in the messages of the YAML libraries.
var yamlLine = regexp.MustCompile(`line (\d+): `)

// parse splits the bytes of a file into documents. An error of one document
// does not keep the others from being read, so that all errors show at once.
func parse(file string, data []byte) ([]*document, Errors) {
	var (
		docs []*document
		errs Errors
	)
	for i, part := range split(data) {
		d := &document{file: file, index: i + 1, line: part.line}
		if err := d.decode(part); err != nil {
			errs = append(errs, err)
			continue
		}
		if dups := d.duplicates(); len(dups) > 0 {
			errs = append(errs, dups...)
			continue
		}
		if d.object == nil { // only comments
			continue
		}
		docs = append(docs, d.expand()...)
	}
	return docs, errs
}

type part struct {
	text []byte
	line int // of its first byte, from 1
}

// split cuts a YAML stream at its document markers, which always stand at the
// beginning of a line.
func split(data []byte) []part {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var (
		parts   []part
		current []byte
		start   = 1
		line    = 0
	)
	flush := func(next int) {
		if len(bytes.TrimSpace(current)) > 0 {
			parts = append(parts, part{text: current, line: start})
		}
		current, start = nil, next
	}
	for rest := data; len(rest) > 0; {
		line++
		var this []byte
		if n := bytes.IndexByte(rest, '\n'); n >= 0 {
			this, rest = rest[:n+1], rest[n+1:]
		} else {
			this, rest = rest, nil
		}
		switch after, isMarker := marker(this); {
		case isMarker && len(after) > 0: // content beside the marker belongs to the next document
			flush(line)
			current = append(append(current, "    "...), after...)
		case isMarker:
			flush(line + 1)
		default:
			current = append(current, this...)
		}
	}
	flush(0)
	return parts
}

// marker tells whether a line is "---" or "...", and what stands behind it
// other than a comment.
func marker(line []byte) (after []byte, ok bool) {
	text := string(line)
	for _, m := range [...]string{"---", "..."} {
		rest, found := strings.CutPrefix(text, m)
		if !found || (strings.TrimRight(rest, "\r\n") != "" && rest[0] != ' ' && rest[0] != '\t') {
			continue
		}
		content := strings.TrimSpace(rest)
		if content == "" || strings.HasPrefix(content, "#") {
			return nil, true
		}
		return []byte(rest), true
	}
	return nil, false
}

// decode fills in object and root.
func (d *document) decode(p part) *Error {
	d.root = syntax(p.text)
	text := bytes.TrimSpace(p.text)
	if text[0] != '{' {
		convert := yaml.YAMLToJSON
		if d.root == nil { // no tree to find duplicate fields in
			convert = yaml.YAMLToJSONStrict
		}
		j, err := convert(p.text)
		if err != nil {
			return d.syntaxError("YAML", err)
		}
		text = j
	}
	var object any
	strict, err := kjson.UnmarshalStrict(text, &object)
	switch {
	case err != nil:
		return d.syntaxError("JSON", err)
	case len(strict) > 0 && d.root == nil:
		return &Error{File: d.file, Line: d.line, Document: d.index, Detail: fmt.Sprintf("expected each field once: %v", strict[0])}
	}
	switch o := object.(type) {
	case nil:
	case map[string]any:
		d.object = o
	default:
		return &Error{File: d.file, Line: d.line, Document: d.index, Detail: fmt.Sprintf("expected a manifest (a mapping with apiVersion, kind, metadata and spec), got %s", jsonType(o))}
	}
	d.identify()
	return nil
}

func (d *document) syntaxError(language string, err error) *Error {
	e := &Error{File: d.file, Line: d.line, Document: d.index}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	message = strings.TrimPrefix(message, "error converting YAML to JSON: yaml: ")
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits by the expression
		e.Line = d.inFile(n)
		message = strings.Replace(message, m[0], "", 1)
	}
	e.Detail = "expected valid " + language + ": " + message
	return e
}

// identify reads kind and name as far as they can be read.
func (d *document) identify() {
	d.kind, _ = d.object["kind"].(string)
	d.apiVersion, _ = d.object["apiVersion"].(string)
	meta, _ := d.object["metadata"].(map[string]any)
	d.name, _ = meta["name"].(string)
	if d.namespace, _ = meta["namespace"].(string); d.namespace == "" {
		d.namespace = defaultNamespace
	}
}

// expand returns the items of a v1 List as documents of their own.
func (d *document) expand() []*document {
	items, ok := d.object["items"].([]any)
	if d.apiVersion != "v1" || d.kind != "List" || !ok {
		return []*document{d}
	}
	out := make([]*document, 0, len(items))
	for i, item := range items {
		object, _ := item.(map[string]any)
		one := &document{file: d.file, index: d.index, line: d.line, root: d.root, object: object, under: fmt.Sprintf("items[%d]", i)}
		one.identify()
		out = append(out, one)
	}
	return out
}

// json is the document's object as JSON.
func (d *document) json() []byte {
	b, _ := json.Marshal(d.object) // it came from JSON
	return b
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	return "a number"
}
