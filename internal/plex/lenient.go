package plex

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// node is an object of an answer. JSON and XML become the same tree: scalar
// members and attributes are values, objects and elements are children,
// whether they came alone or in a list. PMS varies the type of a scalar within
// one answer [P §1.7], so all are kept as text and read leniently. A member of
// another type than expected is simply not found where it is looked for, and
// spoils nothing else. All methods can be asked of a missing node.
type node struct {
	name     string
	values   map[string]string
	children []*node
}

// all returns the children with one of the names, in the answer's order.
func (n *node) all(names ...string) []*node {
	if n == nil {
		return nil
	}
	var found []*node
	for _, c := range n.children {
		for _, name := range names {
			if c.name == name {
				found = append(found, c)
				break
			}
		}
	}
	return found
}

// child returns the first child of that name, or nil.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// text returns a scalar, "" if it is missing.
func (n *node) text(name string) string {
	if n == nil {
		return ""
	}
	return n.values[name]
}

// boolean reads 1 and true, in any letter case, as true.
func (n *node) boolean(name string) bool {
	s := strings.TrimSpace(n.text(name))
	return s == "1" || strings.EqualFold(s, "true")
}

// number returns a scalar as a number, 0 if it is none.
func (n *node) number(name string) float64 {
	f, err := strconv.ParseFloat(strings.TrimSpace(n.text(name)), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// integer returns a scalar as a whole number, 0 if it is none or too large.
func (n *node) integer(name string) int {
	f := n.number(name)
	if math.Abs(f) > math.MaxInt32 {
		return 0
	}
	return int(f)
}

const (
	// maxValues bounds what one answer may hold, as the smallest members
	// take far more room in memory than in the body.
	maxValues = 1 << 19

	// maxDepth is deeper than anything PMS nests.
	maxDepth = 32
)

// kept reports whether we read anything of an element or object of this name.
// The rest, mostly people and genres, is passed over.
func kept(name string) bool {
	switch name {
	case "MediaContainer", "Response", "Metadata", "Video", "Track", "Photo", "Media", "Part", "Stream",
		"User", "Player", "Session", "TranscodeSession", "NotificationContainer", "PlaySessionStateNotification", "Setting":
		return true
	}
	return false
}

// parser counts what it has kept.
type parser struct {
	values int
}

// set keeps a scalar.
func (p *parser) set(n *node, name, value string) error {
	if p.values++; p.values > maxValues {
		return ErrTooLarge
	}
	if n.values == nil {
		n.values = make(map[string]string)
	}
	n.values[name] = value
	return nil
}

// add keeps a child.
func (p *parser) add(n *node, name string) (*node, error) {
	if p.values++; p.values > maxValues {
		return nil, ErrTooLarge
	}
	c := &node{name: name}
	n.children = append(n.children, c)
	return c, nil
}

// parseJSON returns a node that holds the members of the outermost object.
func parseJSON(body []byte) (*node, error) {
	p := jsonParser{dec: json.NewDecoder(bytes.NewReader(body))}
	p.dec.UseNumber()
	if tok, err := p.dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, jsonError(err)
	}
	root := new(node)
	if err := p.object(root, 0); err != nil {
		return nil, jsonError(err)
	}
	return root, nil
}

// jsonError tells a cut document from one that is no JSON.
func jsonError(err error) error {
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	}
	return fmt.Errorf("%w: malformed JSON", ErrNotPMS)
}

type jsonParser struct {
	parser
	dec *json.Decoder
}

// object reads the members of an object whose brace has been read.
func (p *jsonParser) object(n *node, depth int) error {
	for {
		tok, err := p.dec.Token()
		if err != nil {
			return err
		}
		name, ok := tok.(string)
		if !ok {
			return nil // the closing brace
		}
		if tok, err = p.dec.Token(); err != nil {
			return err
		}
		if err := p.member(n, name, tok, depth, true); err != nil {
			return err
		}
	}
}

// member keeps what a value's first token begins: a scalar or an object, or a
// list of objects.
func (p *jsonParser) member(n *node, name string, tok json.Token, depth int, lists bool) error {
	switch v := tok.(type) {
	case json.Delim:
		if !kept(name) || depth >= maxDepth || v == '[' && !lists {
			return p.skip()
		}
		if v == '{' {
			c, err := p.add(n, name)
			if err != nil {
				return err
			}
			return p.object(c, depth+1)
		}
		for {
			tok, err := p.dec.Token()
			if err != nil || tok == json.Delim(']') {
				return err
			}
			if _, ok := tok.(json.Delim); !ok {
				continue // a list of scalars tells us nothing
			}
			if err := p.member(n, name, tok, depth, false); err != nil {
				return err
			}
		}
	case string:
		return p.set(n, name, v)
	case json.Number:
		return p.set(n, name, v.String())
	case bool:
		return p.set(n, name, strconv.FormatBool(v))
	}
	return nil // null is as good as missing
}

// skip passes over the rest of an object or list, however deep.
func (p *jsonParser) skip() error {
	for depth := 1; depth > 0; {
		tok, err := p.dec.Token()
		if err != nil {
			return err
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// parseXML returns a node that holds the outermost element.
func parseXML(body []byte) (*node, error) {
	var p parser
	dec := xml.NewDecoder(bytes.NewReader(body))
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	root := new(node)
	open := []*node{root} // nil for an element that is passed over
	for {
		tok, err := dec.Token()
		if err != nil {
			return nil, xmlError(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if len(open) > 1000 {
				return nil, fmt.Errorf("%w: nested too deeply", ErrNotPMS)
			}
			name := tok.Name.Local
			parent := open[len(open)-1]
			if parent == root && !kept(name) {
				return nil, fmt.Errorf("%w: another kind of document", ErrNotPMS)
			}
			if parent == nil || !kept(name) {
				open = append(open, nil)
				continue
			}
			c, err := p.add(parent, name)
			if err != nil {
				return nil, err
			}
			for _, a := range tok.Attr {
				if err := p.set(c, a.Name.Local, a.Value); err != nil {
					return nil, err
				}
			}
			open = append(open, c)
		case xml.EndElement:
			if open = open[:len(open)-1]; len(open) == 1 {
				return root, nil
			}
		}
	}
}

// xmlError tells a cut document from one that is no XML.
func xmlError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	if e, ok := errors.AsType[*xml.SyntaxError](err); ok && e.Msg == "unexpected EOF" {
		return ErrTruncated
	}
	return fmt.Errorf("%w: malformed XML", ErrNotPMS)
}
