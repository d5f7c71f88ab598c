package manifest

import (
	"fmt"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// maxDepth bounds the walk over a document's syntax tree: manifests are not
// deep, and what is comes from somebody who tries.
const maxDepth = 200

// syntax returns the root of a document's syntax tree, which knows lines; nil
// when the text is no YAML (whatever parses it for its values says why).
func syntax(text []byte) *yamlv3.Node {
	var n yamlv3.Node
	if err := yamlv3.Unmarshal(text, &n); err != nil || n.Kind != yamlv3.DocumentNode || len(n.Content) == 0 {
		return nil
	}
	return n.Content[0]
}

// lineOf returns the line of a field or, where it is missing, that of the
// nearest one above it.
func (d *document) lineOf(field string) int {
	if d.root == nil {
		return d.line
	}
	return d.inFile(d.lineWithin(field))
}

// inFile turns a line of the document into one of the file.
func (d *document) inFile(line int) int { return d.line + line - 1 }

func (d *document) lineWithin(field string) int {
	node := d.root
	line := node.Line
	if d.under != "" {
		field = d.under + "." + field
	}
	for _, step := range steps(field) {
		for node.Kind == yamlv3.AliasNode && node.Alias != nil {
			node = node.Alias
		}
		switch node.Kind {
		case yamlv3.MappingNode:
			key, value := child(node, step)
			if value == nil {
				return line
			}
			line, node = key.Line, value
		case yamlv3.SequenceNode:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(node.Content) {
				return line
			}
			node = node.Content[i]
			line = node.Line
		default:
			return line
		}
	}
	return line
}

func child(node *yamlv3.Node, name string) (key, value *yamlv3.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

// steps splits a field path: a.b[0].c[d.e] is a, b, 0, c, d.e.
func steps(field string) []string {
	var (
		out     []string
		current strings.Builder
		inside  bool
	)
	flush := func() {
		if current.Len() > 0 {
			out = append(out, current.String())
			current.Reset()
		}
	}
	for _, r := range field {
		switch {
		case r == '[' && !inside:
			flush()
			inside = true
		case r == ']' && inside:
			flush()
			inside = false
		case r == '.' && !inside:
			flush()
		default:
			current.WriteRune(r)
		}
	}
	flush()
	return out
}

// duplicates finds fields written twice in one mapping. The last would win
// silently, and the other be lost.
func (d *document) duplicates() Errors {
	var errs Errors
	var walk func(n *yamlv3.Node, path string, depth int)
	walk = func(n *yamlv3.Node, path string, depth int) {
		if depth > maxDepth {
			return
		}
		switch n.Kind {
		case yamlv3.MappingNode:
			seen := make(map[string]int, len(n.Content)/2)
			for i := 0; i+1 < len(n.Content); i += 2 {
				key := n.Content[i]
				field := strings.TrimPrefix(path+"."+key.Value, ".")
				if first, twice := seen[key.Value]; twice {
					e := d.errorAt(field, fmt.Sprintf("expected each field once: it stands in line %d already", d.inFile(first)))
					e.Line = d.inFile(key.Line)
					errs = append(errs, e)
				} else if key.Tag != "!!merge" {
					seen[key.Value] = key.Line
				}
				walk(n.Content[i+1], field, depth+1)
			}
		case yamlv3.SequenceNode:
			for i, item := range n.Content {
				walk(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
			}
		}
	}
	if d.root != nil {
		walk(d.root, "", 0)
	}
	return errs
}
