package plextest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strconv"
	"strings"
)

// element is a piece of an answer. A PMS holds one tree and writes it either
// way: as XML, where everything is an attribute and booleans are 0 and 1, or
// as JSON, where each value keeps the type somebody once gave it [P §1.7].
type element struct {
	name   string // in XML
	member string // in JSON
	single bool   // an object in JSON, not an array of them [P §1.2]
	attrs  []attribute
	kids   []*element
}

type attribute struct {
	name  string
	value any // string, int, float64 or bool
}

func newElement(name string) *element { return &element{name: name, member: name} }

// container starts an answer.
func container(size int) *element { return newElement("MediaContainer").set("size", size) }

func (e *element) set(name string, value any) *element {
	for i := range e.attrs {
		if e.attrs[i].name == name {
			e.attrs[i].value = value
			return e
		}
	}
	e.attrs = append(e.attrs, attribute{name, value})
	return e
}

// setIf leaves an empty value out.
func (e *element) setIf(name, value string) *element {
	if value != "" {
		e.set(name, value)
	}
	return e
}

func (e *element) add(kids ...*element) *element {
	e.kids = append(e.kids, kids...)
	return e
}

// as gives an element its name in JSON.
func (e *element) as(member string) *element {
	e.member = member
	return e
}

func (e *element) object() *element {
	e.single = true
	return e
}

// count makes size say how many children there are.
func (e *element) count() *element { return e.set("size", len(e.kids)) }

func (e *element) json() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	writeString(&b, e.member)
	b.WriteByte(':')
	e.writeJSON(&b)
	b.WriteByte('}')
	return b.Bytes()
}

func (e *element) writeJSON(b *bytes.Buffer) {
	b.WriteByte('{')
	comma := false
	next := func(name string) {
		if comma {
			b.WriteByte(',')
		}
		comma = true
		writeString(b, name)
		b.WriteByte(':')
	}
	for _, a := range e.attrs {
		next(a.name)
		writeValue(b, a.value)
	}
	for i, kid := range e.kids {
		if kid.single {
			next(kid.member)
			kid.writeJSON(b)
			continue
		}
		if firstOf(e.kids, kid.member) != i {
			continue // already in the array of its first sibling
		}
		next(kid.member)
		b.WriteByte('[')
		for j, sibling := range e.kids[i:] {
			if sibling.member != kid.member {
				continue
			}
			if j > 0 {
				b.WriteByte(',')
			}
			sibling.writeJSON(b)
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
}

func firstOf(kids []*element, member string) int {
	for i, k := range kids {
		if k.member == member {
			return i
		}
	}
	return -1
}

func writeValue(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case string:
		writeString(b, v)
	case int:
		b.WriteString(strconv.Itoa(v))
	case float64:
		b.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
	case bool:
		b.WriteString(strconv.FormatBool(v))
	default:
		panic("plextest: attribute of a type no PMS knows")
	}
}

func writeString(b *bytes.Buffer, s string) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		quoted, _ := json.Marshal(s)
		b.Write(quoted)
		return
	}
	b.WriteByte('"')
	b.WriteString(s)
	b.WriteByte('"')
}

func (e *element) xml() []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	e.writeXML(&b)
	return b.Bytes()
}

func (e *element) writeXML(b *bytes.Buffer) {
	b.WriteString("<" + e.name)
	for _, a := range e.attrs {
		b.WriteString(" " + a.name + `="`)
		switch v := a.value.(type) {
		case bool:
			if v {
				b.WriteByte('1')
			} else {
				b.WriteByte('0')
			}
		case string:
			_ = xml.EscapeText(b, []byte(v))
		default:
			writeValue(b, v)
		}
		b.WriteByte('"')
	}
	b.WriteString(">\n")
	for _, k := range e.kids {
		k.writeXML(b)
	}
	b.WriteString("</" + e.name + ">\n")
}
